"""The rank's stdout and stderr: line-buffered, and deaf to a full disk.

Rule: a print is no reason to end a training run; what the disk does not take is counted and lost.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path

MAX_REPEATED = 16 << 20  # bytes


class ForgivingFile(io.FileIO):
    """A file that takes what is written to it even where the disk does not."""

    lost = 0  # bytes

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        if _Said.text:
            fresh = _Said.unsaid(bytes(data))
            if fresh:
                self._put(fresh)
            return len(data)
        return self._put(data)

    def _put(self, data: bytes | bytearray | memoryview) -> int:
        try:
            return super().write(data) or 0
        except OSError as failed:
            if failed.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.lost += len(data)
            return len(data)


class _Said:
    """What the log holds of the steps that are made again: not said twice while it is the same."""

    text = b""
    notice = b""  # written before the first words that differ

    @classmethod
    def unsaid(cls, data: bytes) -> bytes:
        """Return the part of `data` that the log does not hold."""
        if cls.text.startswith(data):
            cls.text = cls.text[len(data) :]
            return b""
        pairs = zip(cls.text, data, strict=False)
        same = next((n for n, (said, now) in enumerate(pairs) if said != now), len(cls.text))
        rest, cls.text = cls.text[same:], b""
        start = b"" if not rest or rest.endswith(b"\n") else b"\n"
        notice = start + cls.notice if rest else b""
        return notice + data[same:]


def repeat(log: Path, start: int, notice: str) -> None:
    """Leave out what is printed as long as `log` says the same from byte `start` on.

    `notice` marks the place in the log where that ends before the log does.
    """
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(start)
            # More is a flood: it is simply said again.
            text = file.read(MAX_REPEATED + 1) if start < size else b""
    except OSError:
        text = b""
    _Said.text = text if len(text) <= MAX_REPEATED else b""
    _Said.notice = notice.encode()


def install() -> None:
    """Replace `sys.stdout` and `sys.stderr`, which belong to the same two descriptors."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        getattr(sys, name).flush()
        stream = io.TextIOWrapper(
            io.BufferedWriter(ForgivingFile(fd, "wb", closefd=False)),  # type: ignore[type-var]
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        setattr(sys, name, stream)
