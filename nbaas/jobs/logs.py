"""The log of a rank as text: read on from where one stopped, progress bars collapsed."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from nbaas.jobs.room import data_start

MAX_READ = 1 << 20  # bytes in one read; a flood is caught up with in several


class LogReader:
    """Reads a growing log; a sequence of bytes that is no UTF-8 becomes U+FFFD."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0  # bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def read(self, limit: int = MAX_READ) -> str:
        """Return what was appended since the last call, '' where nothing was.

        What was cut off the old end of a flooding log is named by its size.
        """
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < self.offset:  # cut off where the file system cannot make holes
                    self.offset = 0
                start = data_start(file.fileno(), self.offset) if size > self.offset else size
                file.seek(start)
                data = file.read(limit)
        except FileNotFoundError:
            return ""
        cut = start - self.offset
        self.offset = start + len(data)
        notice = f"[{cut:,} bytes of log were cut off]\n" if cut else ""
        # A hole ends at a block, not at a line: the zeros before the first line are not text.
        return notice + self._decoder.decode(data.lstrip(b"\0") if cut else data)

    def skip_to_tail(self, size: int) -> int:
        """Go to the last `size` bytes; returns how many bytes were passed over."""
        try:
            end = self.path.stat().st_size
        except FileNotFoundError:
            return 0
        skipped = max(0, end - size - self.offset)
        self.offset += skipped
        return skipped


def collapse(text: str) -> str:
    r"""Return `text` with every line reduced to what a terminal would show after its `\r`.

    A `\r` in front stays: what follows overwrites a line that was shown before.
    """
    return "\n".join(_last_version(line) for line in text.split("\n"))


def _last_version(line: str) -> str:
    ending = "\r" if line.endswith("\r") else ""
    parts = [part for part in line.rstrip("\r").split("\r") if part]
    if not parts:
        return line[:1] and "\r"
    rewritten = len(parts) > 1 or line.startswith("\r")
    return ("\r" if rewritten else "") + parts[-1] + ending
