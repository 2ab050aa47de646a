"""Jobs as rows of the panel: read from their directories, kept while nothing about them changes.

Rules: thread-safe, since requests run in several threads.  A finished job is read once.  A journal is
read on from where the last reader stopped, by one reader for all who look.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field, fields
from pathlib import Path

import msgspec

from nbaas.config import Settings
from nbaas.errors import JobError, JobNotFoundError
from nbaas.jobs.cost import Cost
from nbaas.jobs.job import Job, JobStatus, RankStatus, open_job
from nbaas.jobs.names import JOB_ID
from nbaas.placement import describe
from nbaas.records import JobSpec, State, to_json
from nbaas.server.hosts import Holder
from nbaas.worker.checkpoints import newest_step
from nbaas.worker.curves import Curves, Point
from nbaas.worker.kept import KeptCurves
from nbaas.worker.progress import Phase

SPARK_POINTS = 48
SPARKS = 40  # finished jobs whose curve is drawn in the list, the newest
OPEN_CURVES = 64  # jobs whose curves are kept in memory
ACTIVE = (State.STARTING, State.RUNNING, State.RESTARTING, State.STOPPING, State.CANCELLING)
# What reading files of the wrong shape raises.
DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)
SIGNALS = frozenset(signal.Signals)
PHASES = {
    Phase.ABSENT: "waiting",
    Phase.BORN: "starting",
    Phase.JOINED: "running",
    Phase.RUNNING: "running",
    Phase.RETURNING: "returning",
    Phase.DONE: "done",
}


@dataclass(frozen=True, slots=True)
class RankRow:
    rank: int
    host: str
    gpu: int | None
    state: str
    step: int | None


@dataclass(frozen=True, slots=True)
class FailureRow:
    rank: int
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job in a list; times in seconds since the epoch, `seconds` since its ranks began."""

    id: str
    name: str
    state: str
    final: bool
    flags: tuple[str, ...]
    engine: str
    placed: str  # '2 ranks on the CPU'
    origin: str
    created: float
    since: float
    seconds: float
    reason: str
    failure: FailureRow | None
    step: int
    epoch: int
    batch: int | None
    batches: int | None
    steps_per_second: float | None
    metric: str
    value: float | None
    spark: tuple[float | None, ...]
    ranks: tuple[RankRow, ...]
    checkpoint: int | None = None  # the step of the last complete one
    resumed_from: str = ""  # the id of the job that this one goes on


@dataclass(frozen=True, slots=True)
class SeriesRow:
    x: tuple[int, ...]
    y: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class JobDetail(JobRow):
    """A job with its curves by name, the traceback of its failure, and what it has used."""

    series: dict[str, SeriesRow] = field(kw_only=True)
    traceback: str = field(kw_only=True)
    cost: Cost = field(kw_only=True)


def detailed(row: JobRow, series: dict[str, SeriesRow], traceback: str, cost: Cost) -> JobDetail:
    values = {one.name: getattr(row, one.name) for one in fields(row)}
    return JobDetail(**values, series=series, traceback=traceback, cost=cost)


@dataclass(slots=True)
class _Tail:
    """The curves of one job's rank 0 and how far they have been read."""

    path: Path
    lock: threading.Lock = field(default_factory=threading.Lock)
    _kept: KeptCurves | None = None

    def read(self) -> Curves:
        """Return the curves with all rows that are there; holds the lock of its caller."""
        if self._kept is None:
            self._kept = KeptCurves(self.path)
        return self._kept.read()


class JobIndex:
    """What the handlers ask about jobs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._jobs: dict[str, Job] = {}
        self._finished: dict[str, JobRow] = {}
        self._tails: OrderedDict[str, _Tail] = OrderedDict()
        self._lock = threading.Lock()

    def rows(self, limit: int) -> tuple[list[JobRow], int]:
        """Return all that run and the newest `limit` that have ended; and how many ended in all."""
        running: list[JobRow] = []
        finished: list[JobRow] = []
        for job_id in self._ids():
            row = self._finished.get(job_id)
            if row is None:
                row = self._listed(job_id, sparks=len(finished) < SPARKS)
                if row is None:
                    continue
            (finished if row.final else running).append(row)
        return running + finished[:limit], len(finished)

    def find(self, job_id: str) -> Job:
        """Return the job of an id; JobNotFoundError where there is none."""
        job = self._job(job_id)
        if job is None:
            raise JobNotFoundError(f"no job has the id {job_id}", hint="%jobs lists them")
        return job

    def row(self, job: Job) -> JobRow:
        return self._finished.get(job.id) or self._row(job, sparks=True)

    def series(self, job: Job, points: int) -> dict[str, SeriesRow]:
        """Return every curve of a job with about `points` points; peaks are kept."""
        tail = self._tail(job)
        with tail.lock:
            curves = tail.read().by_name
            return {name: _columns(curve.points(points)) for name, curve in curves.items()}

    def holders(self) -> list[Holder]:
        """Return every rank that runs, with its host, its GPU and the name of its job."""
        jobs = [job for job_id in self._ids() if (job := self._unfinished(job_id)) is not None]
        return [Holder(slot.host, slot.gpu, job.name) for job in jobs for slot in job.spec.slots]

    def _ids(self) -> list[str]:
        """Return all ids, newest first."""
        try:
            names = [entry.name for entry in self._settings.jobs.iterdir()]
        except FileNotFoundError:
            return []
        return sorted((name for name in names if JOB_ID.fullmatch(name)), reverse=True)

    def _unfinished(self, job_id: str) -> Job | None:
        return None if job_id in self._finished else self._jobs.get(job_id)

    def _job(self, job_id: str) -> Job | None:
        """Return the job of an id, None where its directory holds none (yet)."""
        job = self._jobs.get(job_id)
        if job is None:
            try:
                job = _opened(self._settings.jobs / job_id)
            except (JobError, *DAMAGE):
                return None
            self._jobs[job_id] = job
        return job

    def _listed(self, job_id: str, *, sparks: bool) -> JobRow | None:
        """Return the row of an id; None for what is no job: one bad folder must not hide the rest."""
        job = self._job(job_id)
        try:
            return self._row(job, sparks=sparks) if job is not None else None
        except (JobError, OSError):
            return None

    def _row(self, job: Job, *, sparks: bool) -> JobRow:
        """Return the row of a job; JobError where its files are not what nbaas writes."""
        try:
            return self._read_row(job, sparks=sparks)
        except DAMAGE as damage:
            raise JobError(f"the files of job {job.id} are damaged: {damage}") from damage

    def _read_row(self, job: Job, *, sparks: bool) -> JobRow:
        status = job.status()
        if status.state.final and not sparks:
            # Its curve is not shown, and its journal not opened.
            row = _row(job, status, Curves(), now=time.time())
            self._finished[job.id] = row
            return row
        tail = self._tail(job)
        with tail.lock:
            row = _row(job, status, tail.read(), now=time.time())
        if row.final:
            self._finished[job.id] = row
        return row

    def _tail(self, job: Job) -> _Tail:
        with self._lock:
            tail = self._tails.get(job.id)
            if tail is None:
                tail = self._tails[job.id] = _Tail(job.paths.metrics(0))
            self._tails.move_to_end(job.id)
            if len(self._tails) > OPEN_CURVES:
                self._tails.popitem(last=False)
            return tail


def _opened(root: Path) -> Job:
    """Return the job of a directory whose spec holds what it should, each field of its type.

    Raises: JobError: it holds none.  msgspec.ValidationError: a field has another type.
    """
    job = open_job(root)
    msgspec.convert(to_json(job.spec), JobSpec)
    if job.spec.id != root.name or not job.spec.slots:
        raise JobError(f"{root.name} holds the record of another job")
    return job


def _row(job: Job, status: JobStatus, curves: Curves, *, now: float) -> JobRow:
    spec, progress = job.spec, status.ranks[0].progress
    curve = curves.by_name.get(curves.headline)
    began = status.started or spec.created
    known = progress.batches > 0
    return JobRow(
        id=spec.id,
        name=spec.name,
        state=status.state.value,
        final=status.state.final,
        flags=tuple(sorted(status.flags)),
        engine=spec.engine,
        placed=describe(spec.slots),
        origin=spec.origin,
        created=spec.created,
        since=status.since,
        seconds=max(0.0, (status.since if status.state.final else now) - began),
        reason=status.reason,
        failure=_failure(status),
        step=max(curves.step, progress.step),
        epoch=max(curves.epoch, progress.epoch),
        batch=progress.batch if known else None,
        batches=progress.batches if known else None,
        steps_per_second=_rounded(curves.steps_per_second) if status.state in ACTIVE else None,
        metric=curves.headline,
        value=_finite(curve.last[1]) if curve is not None and curve.last is not None else None,
        spark=tuple(_rounded(y) for _, y in curve.points(SPARK_POINTS)) if curve else (),
        ranks=() if status.state.final else tuple(_rank(job, rank) for rank in status.ranks),
        checkpoint=newest_step(job.paths.checkpoints),
        resumed_from=spec.resumed_from,
    )


def _failure(status: JobStatus) -> FailureRow | None:
    failure = status.failure
    if failure is None:
        return None
    return FailureRow(failure.rank, failure.kind, failure.message)


def _rank(job: Job, rank: RankStatus) -> RankRow:
    slot = job.spec.slots[rank.rank]
    return RankRow(rank.rank, slot.host, slot.gpu, _rank_state(rank), rank.progress.step or None)


def _rank_state(rank: RankStatus) -> str:
    code = rank.exit_code
    if code is None:
        return PHASES[rank.progress.phase]
    if code < 0:
        return f"ended by {signal.Signals(-code).name}" if -code in SIGNALS else f"signal {-code}"
    return "done" if code == 0 else f"exited with {code}"


def _columns(points: list[Point]) -> SeriesRow:
    return SeriesRow(tuple(x for x, _ in points), tuple(_rounded(y) for _, y in points))


def _finite(value: float) -> float | None:
    """Return a value as JSON has it: null where it is no number."""
    return value if math.isfinite(value) else None


def _rounded(value: float | None) -> float | None:
    """Six digits are more than a screen shows, and half the bytes."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
