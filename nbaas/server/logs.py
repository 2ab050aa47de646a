"""A piece of a log by its place in the file, so that a reader can go on where it stopped."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

LONGEST = 256 << 10  # bytes in one answer


@dataclass(frozen=True, slots=True)
class LogPart:
    """`start`, `end` and `size` are bytes of the file; `ranks` is how many logs the job has."""

    text: str
    start: int
    end: int
    size: int
    ranks: int


def read_log(path: Path, ranks: int, *, start: int | None, longest: int = LONGEST) -> LogPart:
    """Return what follows `start`, or the last whole lines where it is None; '' if nothing is there.

    A character that is cut at the end is left for the next part; what is no UTF-8 becomes U+FFFD.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            begin = max(0, size - longest) if start is None else min(start, size)
            file.seek(begin)
            data = file.read(longest)
    except FileNotFoundError:
        return LogPart("", 0, 0, 0, ranks)
    if start is None and begin > 0:
        skipped = data.find(b"\n") + 1
        begin, data = begin + skipped, data[skipped:]
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    text = decoder.decode(data)
    pending = len(decoder.getstate()[0])
    return LogPart(text, begin, begin + len(data) - pending, size, ranks)
