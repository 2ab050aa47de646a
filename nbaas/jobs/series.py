"""The metric rows of a rank as a table: one record a step, for data frames, CSV and exports."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

from nbaas.jobs.job import Job
from nbaas.records import Metric

FIXED = ("step", "epoch", "time")  # columns of every record

Record = dict[str, Any]


def rows_of(job: Job, rank: int = 0, start: int = 0) -> Iterator[Metric]:
    """Yield all rows of a rank from byte `start` on, oldest first, in pieces of what one read takes."""
    reader = job.metrics(rank, start)
    while rows := reader.read():
        yield from rows


def records_of(job: Job, rank: int = 0) -> list[Record]:
    """Return what the loop computed and logged: step, epoch, time and the values of that step.

    Values that a cell logs after a step belong to its record.
    """
    return joined(row for row in rows_of(job, rank) if row.kind != "sys")


def joined(rows: Iterable[Metric]) -> list[Record]:
    """Return one record for neighbouring rows of the same step, unless they share a name."""
    records: list[Record] = []
    for row in rows:
        last = records[-1] if records else None
        if last is None or last["step"] != row.step or not row.values.keys().isdisjoint(last):
            last = {"step": row.step, "epoch": row.epoch, "time": row.time}
            records.append(last)
        last.update(row.values)
    return records


def columns_of(records: Sequence[Record]) -> list[str]:
    """Return the names of all columns: the fixed ones, then values as they first appeared."""
    return list(dict.fromkeys([*FIXED, *(name for record in records for name in record)]))


def write_csv(records: Sequence[Record], file: TextIO) -> None:
    """Write records as CSV with a header; a value that a record has not is empty."""
    writer = csv.DictWriter(file, columns_of(records), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)


def json_records(records: Sequence[Record]) -> list[Record]:
    """Return records as JSON holds them: NaN and infinities are words."""
    return [{name: _json(value) for name, value in record.items()} for record in records]


def text_records(records: Sequence[Record]) -> list[Record]:
    """Return records as people read them: six digits, no clock, every record with every column."""
    columns = [name for name in columns_of(records) if name != "time"]
    return [{name: _short(record.get(name, "")) for name in columns} for record in records]


def _json(value: Any) -> Any:
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
