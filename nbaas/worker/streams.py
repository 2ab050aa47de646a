"""The rank's stdout and stderr: line-buffered, and deaf to a full disk.

Rule: a print is no reason to end a training run; what the disk does not take is counted and lost.
"""

from __future__ import annotations

import errno
import io
import sys


class ForgivingFile(io.FileIO):
    """A file that takes what is written to it even where the disk does not."""

    lost = 0  # bytes

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            return super().write(data) or 0
        except OSError as failed:
            if failed.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.lost += len(data)
            return len(data)


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
