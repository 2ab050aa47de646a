"""Requests and answers of HTTP as the gateway handles them."""

from __future__ import annotations

from typing import Any

import msgspec

REASONS = {
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    411: "Length Required",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
WANTED = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-encoding",
        b"content-type",
        b"inference-header-content-length",
        b"expect",
        b"origin",
        b"x-request-id",
        b"x-nbaas-canary",
        b"x-nbaas-key",
        b"transfer-encoding",
    }
)
LINES = {status: f"HTTP/1.1 {status} {text}\r\n".encode() for status, text in REASONS.items()}
JSON = b"Content-Type: application/json\r\n"
NO_SNIFF = b"X-Content-Type-Options: nosniff\r\n"


class Request:
    """A request whose body is still to come, or is all here; `headers` are those in WANTED."""

    __slots__ = (
        "body", "chunked", "digest", "extra", "headers", "keep_alive", "limit", "method", "plan",
        "refusal", "url",
    )  # fmt: skip

    def __init__(self) -> None:
        self.method = b""
        self.url = b""
        self.headers: dict[bytes, bytes] = {}
        self.body: list[bytes] = []
        self.keep_alive = True
        self.chunked = True  # what has no length may come in chunks: HTTP/1.1
        self.limit = 0  # bytes of body that are taken
        self.plan: Any = None  # what the routes decided by the head
        self.refusal: Answer | None = None
        self.extra = b""  # header lines that its answer gets
        self.digest: bytes | None = None  # of the bearer token, once it was looked at


class Answer:
    """A whole answer: status, header lines of its own, body."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, headers: bytes = JSON) -> None:
        self.status = status
        self.body = body
        self.headers = headers


def status_line(status: int) -> bytes:
    return LINES.get(status) or f"HTTP/1.1 {status} Status\r\n".encode()


def error_body(reason: str) -> bytes:
    return msgspec.json.encode({"error": reason})
