"""The curves of a metric journal, kept on file beside it: nobody reads a long journal to draw it.

Rules: the journal is the truth, and the file says up to which byte of it it goes.  The rank that
writes the journal keeps the file; a reader without one, or with an old one, reads the rest of the
journal and may replace the file, which appears whole by a rename.  A file that is damaged is set
aside, one of another journal or format is not used: both cost the reading of the journal only.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import zlib
from array import array
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from nbaas.journal import JournalReader, frame, unframe
from nbaas.worker.curves import Curve, Curves, Point

FORMAT = 1
SAVE_ROWS = 2048  # rows after which the file is written again: what a reader has to read at most
LEAST = 256 << 10  # bytes; a shorter journal is read in no time
READ_BYTES = 1 << 20
CATCH_UP_BYTES = 64 << 10  # read again at each write by a rank whose file was lost: a few ms
MARK = 256  # bytes before the place in the journal, by which it is known again


class KeptCurves:
    """The curves of one journal up to `offset`, begun from the file where there is one."""

    def __init__(self, journal: Path) -> None:
        self.curves, offset = read_curves(journal) or (Curves(), 0)
        self._path = journal
        self._journal = JournalReader(journal, offset)
        self._unsaved = 0  # rows

    @property
    def offset(self) -> int:
        """Bytes of the journal that the curves hold."""
        return self._journal.complete

    def take(self, records: Iterable[Mapping[str, Any]], start: int, end: int) -> None:
        """Take records that were just written from `start` to `end`; sometimes saves.

        Where the curves do not reach to `start` yet, a piece of the journal is read instead.
        """
        if self.offset == start:
            self._add(records)
            self._journal = JournalReader(self._path, end)
        else:
            self._add(self._journal.read(CATCH_UP_BYTES))
        if self._unsaved >= SAVE_ROWS:
            self.save()

    def read(self) -> Curves:
        """Return the curves with all rows that are there; saves them after a long way."""
        before = self._unsaved
        while records := self._journal.read(READ_BYTES):
            self._add(records)
        if self._unsaved - before > SAVE_ROWS:
            self.save()
        return self.curves

    def save(self) -> None:
        """Put the curves on file if they are new and worth it; a disk that refuses changes nothing."""
        if not self._unsaved or self.offset < LEAST:
            return
        self._unsaved = 0
        # OverflowError: a step beyond 64 bits; such a journal is always read.
        with contextlib.suppress(OSError, OverflowError):
            write_curves(self._path, self.curves, self.offset)

    def _add(self, records: Iterable[Mapping[str, Any]]) -> None:
        for record in records:
            self.curves.add(record)
            self._unsaved += 1


def curves_file(journal: Path) -> Path:
    return journal.with_suffix(".curves")


def write_curves(journal: Path, curves: Curves, offset: int) -> None:
    """Put the curves of a journal up to byte `offset` on file."""
    target = curves_file(journal)
    draft = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_native_id()}.tmp")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:  # noqa: PTH123 - a descriptor, made for its owner alone
            file.write(encoded(curves, offset, _mark(journal, offset)))
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def read_curves(journal: Path) -> tuple[Curves, int] | None:
    """Return the curves on file and how many bytes of the journal they hold; None without.

    A damaged file is set aside, as `<name>.damaged`.
    """
    path = curves_file(journal)
    try:
        data = path.read_bytes()
    except OSError:
        return None
    found = decoded(data)
    if found is None:
        with contextlib.suppress(OSError):
            set_aside(path)
        return None
    curves, offset, mark = found
    return (curves, offset) if mark == _mark(journal, offset) else None


def is_damaged(path: Path) -> bool:
    """Return whether a file of curves is not as it was written."""
    try:
        return decoded(path.read_bytes()) is None
    except OSError:
        return False


def set_aside(path: Path) -> None:
    path.replace(path.with_name(f"{path.name}.damaged"))


def _mark(journal: Path, offset: int) -> int:
    """Return what tells a journal from others of its length; -1 where it does not reach to `offset`."""
    start = max(0, offset - MARK)
    try:
        with journal.open("rb") as file:
            file.seek(start)
            before = file.read(offset - start)
    except OSError:
        return -1
    return zlib.crc32(before) if len(before) == offset - start else -1


def encoded(curves: Curves, offset: int, mark: int) -> bytes:
    """Return the file: a framed line of JSON, then for each curve counts, steps and values."""
    parts = [_arrays(curve) for curve in curves.by_name.values()]
    body = b"".join(piece.tobytes() for part in parts for piece in part)
    listed = [
        [name, curve.width, curve.filled, len(counts), len(steps)]
        for (name, curve), (counts, steps, _) in zip(curves.by_name.items(), parts, strict=True)
    ]
    head = {
        "format": FORMAT, "order": sys.byteorder, "offset": offset, "mark": mark,
        "crc": zlib.crc32(body), "step": curves.step, "epoch": curves.epoch,
        "recent": list(curves.recent), "curves": listed,
    }  # fmt: skip
    return frame(head) + body


def _arrays(curve: Curve) -> tuple[array[int], array[int], array[float]]:
    """Return points of each bucket, steps and values; the last row's point comes last."""
    last = curve.last or (0, 0.0)
    points = [*chain.from_iterable(curve.buckets), last]
    counts = array("B", map(len, curve.buckets))
    return counts, array("q", [x for x, _ in points]), array("d", [y for _, y in points])


def decoded(data: bytes) -> tuple[Curves, int, int] | None:
    """Return the curves, the offset and the mark of a file; None if it is damaged.

    A whole file of another format or byte order has no curves and fits no journal.
    """
    line, _, body = data.partition(b"\n")
    head = unframe(line)
    if head is None:
        return None
    if (head.get("format"), head.get("order")) != (FORMAT, sys.byteorder):
        return Curves(), 0, -1
    try:
        if zlib.crc32(body) != head["crc"]:
            return None
        curves = Curves(step=head["step"], epoch=head["epoch"])
        curves.recent.extend((moment, step) for moment, step in head["recent"])
        at = 0
        for name, width, filled, buckets, points in head["curves"]:
            end = at + buckets + 16 * points
            curves.by_name[name] = _curve(body[at:end], buckets, points)
            curves.by_name[name].width, curves.by_name[name].filled = width, filled
            at = end
        return curves, int(head["offset"]), int(head["mark"])
    except (LookupError, TypeError, ValueError):
        return None


def _curve(data: bytes, buckets: int, points: int) -> Curve:
    steps, values = array("q"), array("d")
    steps.frombytes(data[buckets : buckets + 8 * points])
    values.frombytes(data[buckets + 8 * points :])
    found: list[Point] = list(zip(steps, values, strict=True))
    last = found.pop()
    made: list[tuple[Point, ...]] = []
    at = 0
    for count in data[:buckets]:
        made.append(tuple(found[at : at + count]))
        at += count
    return Curve(buckets=made, last=last)
