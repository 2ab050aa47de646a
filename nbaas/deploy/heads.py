"""Heads of requests seen before: a client that asks again sends the same bytes, only the body differs.

Rule: equal bytes at the start of a message mean what llhttp made of them the first time, so only what
changes with time (token, queue) is decided anew.  The table of routes changing empties the memory.
"""

from __future__ import annotations

from nbaas.deploy.messages import Request

END = b"\r\n\r\n"
LONGEST = 2048  # bytes
MOST = 1024  # heads; a client whose bodies differ in length has some of them
# Headers whose value is another one each time, or that make the parser wait.
FRESH = (b"x-request-id", b"x-nbaas-key", b"transfer-encoding", b"expect")


class Heads:
    """Parsed requests of inference by the bytes of their heads."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Request, int]] = {}

    def clear(self) -> None:
        self._known.clear()

    def recall(self, data: bytes) -> Request | None:
        """Return the request if `data` is a known head and exactly its body; not yet admitted."""
        end = data.find(END, 0, LONGEST) + len(END)
        known = self._known.get(data[:end])
        if known is None or len(data) - end != known[1]:
            return None
        first = known[0]
        request = Request()
        request.method, request.url, request.headers = first.method, first.url, first.headers
        request.plan, request.limit, request.digest = first.plan, first.limit, first.digest
        request.extra, request.chunked = first.extra, first.chunked
        request.body = [data[end:]]
        return request

    def learn(self, data: bytes, request: Request) -> None:
        """Remember the head of a request of inference that was `data`, all of it and nothing else."""
        headers = request.headers
        length = headers.get(b"content-length", b"")
        end = data.find(END, 0, LONGEST) + len(END)
        if (
            request.plan is None
            or request.refusal is not None
            or not request.keep_alive
            or not length.isdigit()
            or len(data) - end != int(length)
            or any(name in headers for name in FRESH)
        ):
            return
        if len(self._known) >= MOST:
            self._known.clear()
        kept = Request()
        kept.method, kept.url, kept.headers = request.method, request.url, headers
        kept.plan, kept.limit, kept.digest = request.plan, request.limit, request.digest
        kept.extra, kept.chunked = request.extra, request.chunked
        self._known[data[:end]] = kept, int(length)
