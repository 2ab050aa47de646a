"""A rank's metric journal: rows are taken on the training thread, framed and written by another.

Rule: the training thread only appends to a deque.  A row is acknowledged once it is written, at
most FLUSH_INTERVAL after it was taken; nothing here waits for the disk on the training thread.
The curves beside the journal are brought up to date by the same thread, from the rows it holds.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections import deque
from functools import lru_cache
from pathlib import Path
from typing import Any

from nbaas.journal import JournalWriter, frame, framed, unframe
from nbaas.records import Metric
from nbaas.worker.kept import KeptCurves

FLUSH_INTERVAL = 0.1  # seconds
FLUSH_ROWS = 64
ROWS_PER_WRITE = 512
MAX_SERIES = 64  # values in one row: a line stays below the journal's limit
TAIL = 256 << 10  # bytes of a journal that tell its newest row and its last step
LONGEST_NAME = 200  # characters
MAX_PENDING = 100_000  # rows kept while the disk is full; the oldest go first

Row = tuple[float, int, int, dict[str, float], str]


Steps = dict[tuple[str, str], int]  # (kind, series) -> its last step


def last_steps(path: Path) -> Steps:
    """Return how far a journal goes; cuts off a line that a dead writer left unfinished."""
    found: Steps = {}
    try:
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            tail = file.read()
            whole = tail.rfind(b"\n") + 1
            if whole != len(tail):
                file.truncate(size - len(tail) + whole)
    except FileNotFoundError:
        return found
    for line in tail[:whole].split(b"\n"):
        row = metric_of(unframe(line) or {})
        if row is not None and row.kind != "sys":
            found.update({(row.kind, name): row.step for name in row.values})
    return found


class MetricsWriter:
    """Writes rows to `path`; `close` returns once the last one is on file."""

    def __init__(self, path: Path) -> None:
        self.lost = 0  # rows the disk never took
        self._on_file: Steps | None = last_steps(path) or None  # None: nothing comes twice
        self._journal = JournalWriter(path)
        self._curves = KeptCurves(path)
        self._rows: deque[Row] = deque()
        self._unwritten: list[Row] = []
        self._wake = threading.Event()
        self._closing = False
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def add(self, step: int, epoch: int, values: dict[str, float], kind: str = "train") -> None:
        """Take one row; `values` must not change afterwards.

        A step that is made again after a restart gives the same row, which is on file already.
        """
        if self._on_file is not None and self._repeats(step, values, kind):
            return
        if len(values) > MAX_SERIES:
            self._add_in_parts(step, epoch, values, kind)
            return
        rows = self._rows
        rows.append((time.time(), step, epoch, values, kind))
        if len(rows) == FLUSH_ROWS:
            self._wake.set()

    def _repeats(self, step: int, values: dict[str, float], kind: str) -> bool:
        """Return whether the row is on file; with the first step that is not, nothing is any more."""
        if kind == "sys":
            return False
        on_file = self._on_file or {}
        known = all(step <= on_file.get((kind, name), -1) for name in values)
        if kind == "train" and not known:
            self._on_file = None
        return known

    def _add_in_parts(self, step: int, epoch: int, values: dict[str, float], kind: str) -> None:
        items = list(values.items())
        for start in range(0, len(items), MAX_SERIES):
            self.add(step, epoch, dict(items[start : start + MAX_SERIES]), kind)

    def flush(self) -> None:
        """Return once all rows are on the disk, or the disk has refused them."""
        self._flush()
        self._journal.sync()

    def close(self) -> None:
        self._closing = True
        self._wake.set()
        self._thread.join()
        self._journal.close()

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(FLUSH_INTERVAL)
            self._wake.clear()
            self._flush()
        self._flush()
        self._curves.save()
        self.lost += len(self._unwritten)

    def _flush(self) -> None:
        with self._writing:
            self._write()

    def _write(self) -> None:
        """Write what is there; rows that the disk refuses stay for the next turn."""
        while self._rows:
            self._unwritten.append(self._rows.popleft())
        while self._unwritten:
            batch = [encoded(row) for row in self._unwritten[:ROWS_PER_WRITE]]
            lines = b"".join(map(line_of, batch))
            if not self._journal.append_lines(lines):
                self.lost += max(0, len(self._unwritten) - MAX_PENDING)
                self._unwritten = self._unwritten[-MAX_PENDING:]
                return
            del self._unwritten[:ROWS_PER_WRITE]
            self._curves.take(batch, self._journal.end - len(lines), self._journal.end)


def encoded(row: Row) -> dict[str, Any]:
    """Return a row as the JSON object of a `Metric`; NaN and infinities as strings."""
    moment, step, epoch, values, kind = row
    kept = ((name[:LONGEST_NAME], float(value)) for name, value in values.items())
    safe = {name: value if math.isfinite(value) else str(value) for name, value in kept}
    record = {"time": moment, "step": step, "epoch": epoch, "values": safe}
    return record if kind == "train" else {**record, "kind": kind}


def line_of(record: dict[str, Any]) -> bytes:
    """Return what `encoded` gives as a framed line.

    Written by hand: this thread holds the GIL against the training thread, and json takes thrice
    as long.
    """
    values = record["values"]
    if str in map(type, values.values()):  # NaN or infinity
        return frame(record)
    moment, step, epoch = record["time"], record["step"], record["epoch"]
    numbers = _template(tuple(values)) % tuple(values.values())
    end = f',"kind":"{record["kind"]}"' if "kind" in record else ""
    text = f'{{"time":{moment!r},"step":{step},"epoch":{epoch},"values":{{{numbers}}}{end}}}'
    return framed(text.encode())


@lru_cache(maxsize=1024)
def _template(names: tuple[str, ...]) -> str:
    """Return the JSON of a row's values with a place for each number."""
    return ",".join(json.dumps(name).replace("%", "%%") + ":%r" for name in names)


def newest_values(path: Path, kind: str) -> dict[str, float]:
    """Return the values of the newest row of a kind near the end of a journal; {} without one."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().split(b"\n")
    except OSError:
        return {}
    rows = (metric_of(unframe(line) or {}) for line in reversed(lines))
    return next((row.values for row in rows if row is not None and row.kind == kind), {})


def metric_of(record: dict[str, Any]) -> Metric | None:
    """Return the row of a journal record, 'nan' and 'inf' as floats again; None if it is none."""
    try:
        values = {str(name): float(value) for name, value in record["values"].items()}
        return Metric(
            time=float(record["time"]),
            step=int(record["step"]),
            epoch=int(record["epoch"]),
            values=values,
            kind=str(record.get("kind", "train")),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
