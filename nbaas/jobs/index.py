"""An index of jobs and metric rows in SQLite: lists and curves of many points in milliseconds.

Rules: a row and the place in the journal it came from are written in one transaction, so each row is
there exactly once however often and by whomever it is read in.  Nothing is ever only here.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbaas.config import Settings
from nbaas.jobs.job import Job
from nbaas.jobs.schema import checkpoint, open_index, set_aside, writing
from nbaas.journal import JournalReader
from nbaas.records import Metric
from nbaas.worker.metrics import metric_of

BUCKETS = (64, 1024)  # rows in one bucket of each level
READ_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What lies between two points of a curve: the extremes stay visible however few are drawn."""

    step: int  # of the first row
    low: float | None  # None: no finite value
    high: float | None
    mean: float | None
    count: int


@dataclass(frozen=True, slots=True)
class IndexedJob:
    id: str
    name: str
    state: str
    created: float
    since: float
    reason: str


class Index:
    """One connection to `<home>/index.sqlite`; threads may share it."""

    def __init__(self, settings: Settings) -> None:
        self.path: Path = settings.home / "index.sqlite"
        self._lock = threading.RLock()
        self._connection = open_index(self.path)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def take(self, job: Job) -> int:
        """Read in what is new about a job; returns how many rows that were.

        An index that turns out to be damaged is set aside and filled again from this job on.
        """
        with self._lock:
            try:
                return self._take(job)
            except sqlite3.DatabaseError as failed:
                if isinstance(failed, sqlite3.OperationalError):
                    raise
                self._connection.close()
                set_aside(self.path)
                self._connection = open_index(self.path)
                return self._take(job)

    def _take(self, job: Job) -> int:
        status = job.status()
        spec = job.spec
        row = (spec.id, spec.name, status.state.value, spec.created, status.since, spec.engine,
               spec.world_size, status.reason)  # fmt: skip
        with writing(self._connection):
            self._connection.execute(
                "INSERT INTO jobs VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET"
                " state = excluded.state, since = excluded.since, reason = excluded.reason",
                row,
            )
        taken = sum(self._take_rank(job, slot.rank) for slot in spec.slots)
        checkpoint(self._connection, self.path)
        return taken

    def _take_rank(self, job: Job, rank: int) -> int:
        total = 0
        while (count := self._take_piece(job, rank)) is not None:
            total += count
        return total

    def _take_piece(self, job: Job, rank: int) -> int | None:
        """Read in one transaction's worth; None where nothing was left to read."""
        with writing(self._connection):
            found = self._connection.execute(
                "SELECT offset, rows, damaged FROM sources WHERE job = ? AND rank = ?",
                (job.id, rank),
            ).fetchone()
            offset, rows, damaged = found or (0, 0, 0)
            reader = JournalReader(job.paths.metrics(rank), offset=offset)
            records = reader.read(READ_BYTES)
            end = reader.complete
            if end == offset:
                return None
            metrics = [metric for record in records if (metric := metric_of(record)) is not None]
            self._insert(job.id, rank, rows, metrics)
            self._connection.execute(
                "INSERT OR REPLACE INTO sources VALUES (?,?,?,?,?)",
                (job.id, rank, end, rows + len(metrics), damaged + reader.damaged),
            )
            return len(metrics)

    def _insert(self, job_id: str, rank: int, first: int, metrics: Sequence[Metric]) -> None:
        numbers: dict[tuple[str, str], int] = {}
        points = []
        for row, metric in enumerate(metrics, start=first):
            for name, value in metric.values.items():
                key = (metric.kind, name)
                if key not in numbers:
                    numbers[key] = self._series(job_id, rank, *key)
                # SQLite keeps infinities, and stores a NaN as NULL.
                points.append((numbers[key], row, metric.step, metric.time, value))
        self._connection.executemany("INSERT INTO points VALUES (?,?,?,?,?)", points)
        for size in BUCKETS:
            self._connection.executemany(UPSERT_BUCKET, rolled_up(points, size))

    def _series(self, job_id: str, rank: int, kind: str, name: str) -> int:
        key = (job_id, rank, kind, name)
        self._connection.execute(
            "INSERT OR IGNORE INTO series (job, rank, kind, name) VALUES (?,?,?,?)", key
        )
        found = self._connection.execute(
            "SELECT number FROM series WHERE job = ? AND rank = ? AND kind = ? AND name = ?", key
        ).fetchone()
        return int(found[0])

    def jobs(self, limit: int = 50, name: str = "") -> list[IndexedJob]:
        """Return the newest jobs that were taken in, of one name where it is given."""
        where = "WHERE name = ?" if name else ""
        with self._lock:
            rows = self._connection.execute(
                f"SELECT id, name, state, created, since, reason FROM jobs {where}"  # noqa: S608 - a constant
                " ORDER BY id DESC LIMIT ?",
                ((name, limit) if name else (limit,)),
            ).fetchall()
        return [IndexedJob(*row) for row in rows]

    def names(self, job_id: str, rank: int = 0, kind: str = "train") -> list[str]:
        """Return the names of a job's series."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT name FROM series WHERE job = ? AND rank = ? AND kind = ? ORDER BY number",
                (job_id, rank, kind),
            ).fetchall()
        return [row[0] for row in rows]

    def rows(self, job_id: str, rank: int = 0) -> int:
        """Return how many rows of a rank are in the index."""
        with self._lock:
            found = self._connection.execute(
                "SELECT rows FROM sources WHERE job = ? AND rank = ?", (job_id, rank)
            ).fetchone()
        return int(found[0]) if found else 0

    def curve(
        self, job_id: str, name: str, *, rank: int = 0, kind: str = "train", points: int = 1000
    ) -> list[CurvePoint]:
        """Return a series in at most about `points` pieces, oldest first; [] where there is none.

        Every value lies between `low` and `high` of its piece: no peak is lost.
        """
        with self._lock:
            key = (job_id, rank, kind, name)
            found = self._connection.execute(SELECT_SPAN, key).fetchone()
            if found is None or found[1] is None:
                return []
            number, first, last = found
            enough = (size for size in BUCKETS if (last - first) // size >= points // 2)
            size = max(enough, default=1)
            query = SELECT_POINTS if size == 1 else SELECT_BUCKETS
            chosen = (number,) if size == 1 else (number, size)
            pieces = [CurvePoint(*row) for row in self._connection.execute(query, chosen)]
        return merged(pieces, points)


# Each of the two is one look into the primary key, not a walk over the points.
SELECT_SPAN = (
    "SELECT number, (SELECT min(row) FROM points WHERE points.series = number),"
    " (SELECT max(row) FROM points WHERE points.series = number)"
    " FROM series WHERE job = ? AND rank = ? AND kind = ? AND name = ?"
)
SELECT_POINTS = "SELECT step, value, value, value, 1 FROM points WHERE series = ? ORDER BY row"
SELECT_BUCKETS = (
    "SELECT step, low, high, total / nullif(count, 0), count FROM buckets"
    " WHERE series = ? AND size = ? ORDER BY bucket"
)
UPSERT_BUCKET = (
    "INSERT INTO buckets VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (series, size, bucket) DO UPDATE SET"
    " low = coalesce(min(low, excluded.low), low, excluded.low),"
    " high = coalesce(max(high, excluded.high), high, excluded.high),"
    " total = total + excluded.total, count = count + excluded.count"
)

PointRow = tuple[int, int, int, float, float]
BucketRow = tuple[int, int, int, int, float | None, float | None, float, int]


def rolled_up(points: Iterable[PointRow], size: int) -> list[BucketRow]:
    """Return the buckets of `size` rows that `points` add to; only finite values count."""
    grouped: dict[tuple[int, int], list[PointRow]] = defaultdict(list)
    for point in points:
        grouped[point[0], point[1] // size].append(point)
    buckets: list[BucketRow] = []
    for (series, bucket), members in grouped.items():
        values = [value for *_, value in members if _is_finite(value)]
        low, high = (min(values), max(values)) if values else (None, None)
        step = members[0][2]
        buckets.append((series, size, bucket, step, low, high, sum(values), len(values)))
    return buckets


def merged(pieces: Sequence[CurvePoint], points: int) -> list[CurvePoint]:
    """Return neighbouring pieces joined until there are at most `points`."""
    width = -(-len(pieces) // max(points, 1))
    if width <= 1:
        return list(pieces)
    return [_joined(pieces[at : at + width]) for at in range(0, len(pieces), width)]


def _joined(pieces: Sequence[CurvePoint]) -> CurvePoint:
    lows = [piece.low for piece in pieces if piece.low is not None]
    highs = [piece.high for piece in pieces if piece.high is not None]
    counted = [(piece.mean, piece.count) for piece in pieces if piece.mean is not None]
    count = sum(number for _, number in counted)
    return CurvePoint(
        step=pieces[0].step,
        low=min(lows, default=None),
        high=max(highs, default=None),
        mean=sum(mean * number for mean, number in counted) / count if count else None,
        count=count,
    )


def _is_finite(value: float) -> bool:
    return value - value == 0
