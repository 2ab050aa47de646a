"""Server-sent events: how the gateway writes a stream, and how a client reads it.

An item is `data: {...}`, the end `event: end` with the number of items, what went wrong after the
first item `event: error`.  Pure; a body is JSON of one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

STREAM_HEAD = (
    b"Content-Type: text/event-stream\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\n"
)


def event(body: bytes, kind: str = "") -> bytes:
    named = f"event: {kind}\n".encode() if kind else b""
    return b"%bdata: %b\n\n" % (named, body)


def ending(items: int) -> bytes:
    return event(b'{"items":%d}' % items, "end")


def chunk(data: bytes, chunked: bool = True) -> bytes:  # noqa: FBT001, FBT002 - a framing, not a switch
    """Return `data` as one chunk of a body without a length."""
    return b"%x\r\n%b\r\n" % (len(data), data) if chunked else data


def events(lines: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield kind ('message' where none is given) and data of each event in the lines of a body."""
    kind, data = "message", b""
    for line in lines:
        name, _, value = line.rstrip(b"\r\n").partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            kind = value.decode()
        elif name == b"data":
            data = data + b"\n" + value if data else value
        elif not name and not value and data:
            yield kind, data
            kind, data = "message", b""
