"""A job as its readers see it: everything comes from its directory, the verbs go to its supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from nbaas.errors import JobError
from nbaas.jobs.control import ask
from nbaas.jobs.logs import LogReader
from nbaas.jobs.reconcile import history_of, reconciled
from nbaas.jobs.state import History
from nbaas.jobs.watch import UNRESPONSIVE_AFTER, heartbeat_age
from nbaas.journal import JournalReader
from nbaas.launchers.processes import start_time
from nbaas.records import JobPaths, JobSpec, Metric, RankFailure, State, from_json
from nbaas.worker.checkpoints import Checkpoint, checkpoints
from nbaas.worker.metrics import metric_of
from nbaas.worker.progress import Progress, read_progress

POLL = 0.05  # seconds


@dataclass(frozen=True, slots=True)
class RankStatus:
    """One rank: how far it is, and how it ended where it has."""

    rank: int
    pid: int
    progress: Progress
    exit_code: int | None = None  # minus the signal's number where one ended it

    @property
    def alive(self) -> bool:
        return self.pid > 0 and self.exit_code is None


@dataclass(frozen=True, slots=True)
class JobStatus:
    """Where a job is; `flags` of UNRESPONSIVE, STALLED, DISK_FULL, QUEUED."""

    state: State
    since: float  # seconds since the epoch: when the state was entered
    started: float  # when the ranks began to run; 0 before
    flags: frozenset[str] = frozenset()
    ranks: tuple[RankStatus, ...] = ()
    reason: str = ""
    failure: RankFailure | None = None
    restarts: int = 0


class MetricReader:
    """Reads one rank's metric rows on from where it stopped."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._journal = JournalReader(path, offset)

    @property
    def damaged(self) -> int:
        return self._journal.damaged

    def read(self) -> list[Metric]:
        rows = (metric_of(record) for record in self._journal.read())
        return [row for row in rows if row is not None]


@dataclass(slots=True)
class Job:
    """One job directory; cheap to make, and reads the files anew at each call."""

    spec: JobSpec
    paths: JobPaths
    _history: tuple[tuple[int, int], History] | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def name(self) -> str:
        return self.spec.name

    def status(self) -> JobStatus:
        """Return where the job is now; declares it LOST where its supervisor has died."""
        history = reconciled(self.paths, self.history())
        state = history.state or State.LOST
        flags = set(history.flags)
        if state is State.STARTING or state is State.RUNNING:
            age = heartbeat_age(self.paths.heartbeat)
            if age is not None and age > UNRESPONSIVE_AFTER:
                flags.add("UNRESPONSIVE")
        failure = from_json(RankFailure, dict(history.failure)) if history.failure else None
        return JobStatus(
            state=state,
            since=history.since,
            started=history.started,
            flags=frozenset(flags),
            ranks=self._ranks(history),
            reason=history.reason if history.state else "its journal is empty",
            failure=failure,
            restarts=history.restarts,
        )

    def history(self) -> History:
        """Return the journal's replay, anew only where the file has changed."""
        try:
            found = self.paths.events.stat()
        except FileNotFoundError:
            return History()
        key = (found.st_size, found.st_mtime_ns)
        if self._history is None or self._history[0] != key:
            self._history = (key, history_of(self.paths))
        return self._history[1]

    def _ranks(self, history: History) -> tuple[RankStatus, ...]:
        return tuple(
            RankStatus(
                rank=rank,
                pid=history.pids.get(rank, 0),
                progress=read_progress(self.paths.progress(rank)),
                exit_code=history.exits.get(rank),
            )
            for rank in range(self.spec.world_size)
        )

    def wait(self, timeout: float | None = None) -> JobStatus:
        """Return the status once the job is over, or after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            status = self.status()
            if status.state.final or (deadline is not None and time.monotonic() > deadline):
                return status
            time.sleep(POLL)

    def stop(self, grace: float | None = None) -> None:
        """Ask the ranks to finish their step and return; what does not listen is killed.

        Returns at once; a job that is over stays as it is.
        """
        self._tell({"verb": "stop", "grace": grace})

    def kill(self) -> None:
        """End all ranks now; values of the cell are lost.  A job that is over stays as it is."""
        self._tell({"verb": "kill"})

    def checkpoint(self) -> None:
        """Ask for a checkpoint at the end of the loop's turn; returns at once.

        Raises: JobError: the job is not at work, or does not answer.
        """
        status = self.status()
        if status.state is not State.RUNNING:
            raise JobError(f"{self.name!r} is {status.state.value}: nothing to save")
        if ask(self.history().control, {"verb": "checkpoint"}) is None:
            raise JobError(f"{self.name!r} does not answer", hint=f"%logs {self.name}")

    def checkpoints(self) -> list[Checkpoint]:
        """Return the complete checkpoints, newest first."""
        return checkpoints(self.paths.checkpoints)

    def log(self, rank: int = 0) -> LogReader:
        """Return a reader of what a rank has printed, from the beginning."""
        self._check_rank(rank)
        return LogReader(self.paths.log(rank))

    def metrics(self, rank: int = 0, start: int = 0) -> MetricReader:
        """Return a reader of a rank's metric rows from byte `start` of its journal on."""
        self._check_rank(rank)
        return MetricReader(self.paths.metrics(rank), start)

    def _check_rank(self, rank: int) -> None:
        if not 0 <= rank < self.spec.world_size:
            raise JobError(
                f"rank {rank}: {self.name!r} has ranks 0 to {self.spec.world_size - 1}",
            )

    def _tell(self, request: dict[str, object]) -> None:
        history = reconciled(self.paths, self.history())
        if history.state is None:
            raise JobError(f"{self.name!r} was removed", hint="%jobs lists those that are left")
        deadline = time.monotonic() + POLL * 100
        while not history.control and not _is_over(history) and time.monotonic() < deadline:
            time.sleep(POLL)
            history = reconciled(self.paths, self.history())
        if _is_over(history) or ask(history.control, request) is not None:
            return
        history = reconciled(self.paths, self.history())
        if not _is_over(history):
            self._terminate(history)

    def _terminate(self, history: History) -> None:
        """Signal a supervisor that holds its lock but does not answer."""
        pid, born = history.supervisor
        with contextlib.suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)
            try:
                if start_time(pid) == born:
                    signal.pidfd_send_signal(fd, signal.SIGTERM)
            finally:
                os.close(fd)


def _is_over(history: History) -> bool:
    return history.state is not None and history.state.final


def open_job(root: Path) -> Job:
    """Return the job of a directory; raises JobError where it holds none."""
    paths = JobPaths(root)
    try:
        return Job(from_json(JobSpec, json.loads(paths.spec.read_text())), paths)
    except (OSError, ValueError, TypeError, KeyError) as damaged:
        raise JobError(f"{root} holds no job: {damaged}") from damaged
