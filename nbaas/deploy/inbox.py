"""Frames from the gateway's socket, read into one buffer that is used again and again."""

from __future__ import annotations

import socket

from nbaas.deploy.frames import LENGTH, REQUEST

FIRST_BUFFER = 1 << 20  # bytes; grows to the largest request seen

Frame = tuple[int, int, int, bytes]  # id, flags, header length, body


class Inbox:
    """What has arrived from one gateway; `recv` into new memory would cost a megabyte each time."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self._buffer = bytearray(FIRST_BUFFER)
        self._start = self._end = 0

    def receive(self, *, wait: bool) -> bool:
        """Read what has arrived; False at the end of the stream, or with nothing there to read."""
        if self._end == len(self._buffer):
            self._make_room()
        flags = 0 if wait else socket.MSG_DONTWAIT
        try:
            count = self.link.recv_into(memoryview(self._buffer)[self._end :], 0, flags)
        except BlockingIOError:
            return False
        self._end += count
        return count > 0

    def _make_room(self) -> None:
        held = self._end - self._start
        need = self._needed()
        if need > len(self._buffer):
            larger = bytearray(need + FIRST_BUFFER)
            larger[:held] = memoryview(self._buffer)[self._start : self._end]
            self._buffer = larger
        else:
            self._buffer[:held] = self._buffer[self._start : self._end]
        self._start, self._end = 0, held

    def _needed(self) -> int:
        """Return the bytes of the frame at the start, as far as its length is here."""
        if self._end - self._start < LENGTH:
            return FIRST_BUFFER
        length = int.from_bytes(
            memoryview(self._buffer)[self._start : self._start + LENGTH], "little"
        )
        return LENGTH + length

    def take(self) -> Frame | None:
        """Return the next whole frame: id, flags, header length, body; None while it is not here."""
        held = self._end - self._start
        if held < REQUEST.size:
            return None
        length, identity, flags, header_length = REQUEST.unpack_from(self._buffer, self._start)
        end = self._start + LENGTH + length
        if end > self._end:
            if end > len(self._buffer):
                self._make_room()
            return None
        body = bytes(memoryview(self._buffer)[self._start + REQUEST.size : end])
        self._start = end
        if self._start == self._end:
            self._start = self._end = 0
        return identity, flags, header_length, body
