"""A piece of a log by its place in the file, so that a reader can go on where it stopped."""

from __future__ import annotations

import codecs
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nbaas.errors import JobError
from nbaas.jobs.room import data_start

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
    A link is not followed, nor a pipe waited for: a job folder may have been made by somebody else.
    Raises: JobError: the log is no plain file.
    """
    try:
        with _opened(path) as file:
            size = file.seek(0, 2)
            begin = max(0, size - longest) if start is None else min(start, size)
            # The front of a flooding log is cut off: a hole that reads as zeros.
            data_begins = data_start(file.fileno(), begin) if begin < size else begin
            file.seek(data_begins)
            data = file.read(longest)
            if data_begins > begin:
                begin, data = data_begins + len(data) - len(data.lstrip(b"\0")), data.lstrip(b"\0")
    except FileNotFoundError:
        return LogPart("", 0, 0, 0, ranks)
    except OSError as odd:
        raise JobError(f"{path.name} of job {path.parents[1].name} cannot be read: {odd}") from odd
    if start is None and begin > 0:
        skipped = data.find(b"\n") + 1
        begin, data = begin + skipped, data[skipped:]
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    text = decoder.decode(data)
    pending = len(decoder.getstate()[0])
    return LogPart(text, begin, begin + len(data) - pending, size, ranks)


def _opened(path: Path) -> BinaryIO:
    """Return the file open for reading; OSError where it is a link or no plain file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("not a plain file")
    return os.fdopen(descriptor, "rb")
