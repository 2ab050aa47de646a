"""The log of a rank as text: read on from where one stopped, progress bars collapsed."""

from __future__ import annotations

import codecs
from pathlib import Path

MAX_READ = 1 << 20  # bytes in one read; a flood is caught up with in several


class LogReader:
    """Reads a growing log; a sequence of bytes that is no UTF-8 becomes U+FFFD."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0  # bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def read(self, limit: int = MAX_READ) -> str:
        """Return what was appended since the last call, '' where nothing was."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(limit)
        except FileNotFoundError:
            return ""
        self.offset += len(data)
        return self._decoder.decode(data)

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
