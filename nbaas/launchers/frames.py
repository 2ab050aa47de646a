"""What a supervisor and the agents on its hosts say to each other, over ssh's stdin and stdout.

A frame is two lengths, a JSON object and bytes.  Rules: everything goes through here, nothing onto a
command line; neither side ever waits for the other to read.  Standard library only.
"""

from __future__ import annotations

import json
import os
import struct
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from nbaas.errors import EngineError

HEAD = struct.Struct("!II")  # bytes of JSON, bytes behind it
MAX_JSON = 4 << 20
MAX_BODY = 1 << 20
CHUNK = 256 << 10  # bytes of a file in one frame
# An agent begins with this: whatever a login shell has printed before is passed over.
GREETING = b"\n\0nbaas-agent-1\n"
MAX_NOISE = 256 << 10  # bytes
ENOUGH = 4 << 20  # bytes waiting to be written: then sources are left where they are

Frame = tuple[dict[str, Any], bytes]


def encoded(message: dict[str, Any], body: bytes = b"") -> bytes:
    """Return one frame."""
    text = json.dumps(message, separators=(",", ":")).encode()
    if len(text) > MAX_JSON or len(body) > MAX_BODY:
        raise ValueError(f"a frame of {len(text)} and {len(body)} bytes")
    return HEAD.pack(len(text), len(body)) + text + body


class FrameReader:
    """Takes bytes as they come and gives the frames in them; raises ValueError for what is none."""

    def __init__(self, *, greeted: bool = True) -> None:
        self._data = bytearray()
        self.greeted = greeted

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._data += data
        if not self.greeted and not self._pass_over_noise():
            return
        while len(self._data) >= HEAD.size:
            text, body = HEAD.unpack_from(self._data)
            if text > MAX_JSON or body > MAX_BODY:
                raise ValueError(f"a frame of {text} and {body} bytes")
            end = HEAD.size + text + body
            if len(self._data) < end:
                return
            message = json.loads(bytes(self._data[HEAD.size : HEAD.size + text]))
            if not isinstance(message, dict):
                raise ValueError("a frame that holds no object")  # noqa: TRY004 - of data, not of our call
            payload = bytes(self._data[HEAD.size + text : end])
            del self._data[:end]
            yield message, payload

    def _pass_over_noise(self) -> bool:
        start = self._data.find(GREETING)
        if start < 0:
            if len(self._data) > MAX_NOISE:
                raise ValueError("no agent is at the other end")
            return False
        del self._data[: start + len(GREETING)]
        self.greeted = True
        return True


class FrameWriter:
    """Writes frames to a non-blocking descriptor; what it does not take waits here.

    Sources are asked for their next frame only when little is waiting: a file of a GB is never in
    memory.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.sent = 0  # bytes
        self._pending: deque[memoryview] = deque()
        self._waiting = 0
        self._sources: deque[Iterator[bytes]] = deque()

    @property
    def idle(self) -> bool:
        return not self._pending and not self._sources

    @property
    def drained(self) -> bool:
        """Whether every source has been sent."""
        return not self._sources

    @property
    def room(self) -> bool:
        """Whether more may be sent that can as well be sent later."""
        return self._waiting < ENOUGH

    def send(self, message: dict[str, Any], body: bytes = b"") -> None:
        frame = encoded(message, body)
        self._pending.append(memoryview(frame))
        self._waiting += len(frame)

    def send_all(self, frames: Iterator[bytes]) -> None:
        """Send what `frames` yields, behind the sources given before; `send` may go in between."""
        self._sources.append(frames)

    def flush(self) -> None:
        """Write until the other side takes no more; raises OSError when it is gone."""
        while True:
            while self._sources and self._waiting < CHUNK:
                frame = next(self._sources[0], None)
                if frame is None:
                    self._sources.popleft()
                    continue
                self._pending.append(memoryview(frame))
                self._waiting += len(frame)
            if not self._pending:
                return
            try:
                written = os.write(self.fd, self._pending[0])
            except BlockingIOError:
                return
            self.sent += written
            self._waiting -= written
            rest = self._pending.popleft()[written:]
            if rest:
                self._pending.appendleft(rest)


def read_available(fd: int, limit: int = 4 << 20) -> tuple[bytes, bool]:
    """Return what a non-blocking descriptor holds, and whether it is at its end."""
    parts: list[bytes] = []
    total = 0
    while total < limit:
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            break
        except OSError:
            data = b""
        if not data:
            return b"".join(parts), True
        parts.append(data)
        total += len(data)
    return b"".join(parts), False


def dispatch(handlers: object, message: dict[str, Any], body: bytes) -> None:
    """Call the method `on_<verb>` of `handlers`; raises EngineError for a verb it does not know."""
    verb = str(message.get("verb", ""))
    handle: Callable[[dict[str, Any], bytes], None] | None = getattr(handlers, f"on_{verb}", None)
    if handle is None:
        raise EngineError(f"a frame with the verb {verb!r}", hint="is nbaas the same everywhere?")
    handle(message, body)
