"""The ranks of a job as its supervisor holds them: started together, ended together."""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import dataclass
from typing import Self

from nbaas.engines.base import EngineFactory, Rendezvous
from nbaas.jobs.blame import Exit
from nbaas.launchers.local import Launcher, RankProcess, RankStart
from nbaas.records import JobPaths, JobSpec
from nbaas.worker.checkpoints import RESUME, newest_step
from nbaas.worker.progress import Phase, Progress, read_progress

REPORT_BYTES = 4096


@dataclass(slots=True)
class Member:
    """One rank: its process, how far it said it is, how it ended."""

    rank: int
    process: RankProcess
    phase: Phase = Phase.ABSENT
    exit: Exit | None = None
    asked: bool = False  # we sent SIGTERM
    killed: bool = False  # we sent SIGKILL

    @property
    def alive(self) -> bool:
        return self.exit is None


class Gang:
    """Starts all ranks; its pipes hang up when this process ends, and with them the ranks."""

    def __init__(self, spec: JobSpec, paths: JobPaths) -> None:
        self.spec = spec
        self.paths = paths
        self.members: list[Member] = []
        self.started = time.monotonic()
        self.report_fd, self._report_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._lifelines: list[int] = []
        self._partial = b""

    def start(self, launcher: Launcher, engine: EngineFactory, rendezvous: Rendezvous) -> Self:
        """Start every rank, from the main thread; on an error those that run are in `members`."""
        environments = engine.environment(self.spec.slots, rendezvous)
        saved = newest_step(self.paths.checkpoints) is not None
        resume = {RESUME: "1"} if saved else {}
        for slot, engine_env in zip(self.spec.slots, environments, strict=True):
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            self._lifelines.append(write_end)
            try:
                start = RankStart(
                    self.spec,
                    slot,
                    self.paths,
                    {**engine_env, **resume},
                    read_end,
                    self._report_end,
                )
                self.members.append(Member(slot.rank, launcher.start(start)))
            finally:
                os.close(read_end)
        return self

    @property
    def alive(self) -> list[Member]:
        return [member for member in self.members if member.alive]

    @property
    def exits(self) -> list[Exit]:
        return [member.exit for member in self.members if member.exit]

    def all_reached(self, phase: Phase) -> bool:
        complete = len(self.members) == self.spec.world_size
        return complete and all(member.phase >= phase for member in self.members)

    def read_reports(self) -> None:
        """Take in what ranks have said about how far they are."""
        while True:
            try:
                data = os.read(self.report_fd, REPORT_BYTES)
            except BlockingIOError:
                return
            *lines, self._partial = (self._partial + data).split(b"\n")
            for line in lines:
                rank, phase = map(int, line.split())
                self.members[rank].phase = Phase(phase)
            if len(data) < REPORT_BYTES:
                return

    def collect(self) -> list[Exit]:
        """Return the ranks that have ended since the last call."""
        ended = []
        for member in self.alive:
            code = member.process.exit_code()
            if code is not None:
                # A bare interpreter dies of SIGTERM: it has done what it was asked to.
                ours = member.killed or (member.asked and code == -signal.SIGTERM)
                member.exit = Exit(member.rank, code, order=len(self.exits), ours=ours)
                ended.append(member.exit)
        return ended

    def ask(self) -> None:
        """SIGTERM: finish the step, write the result, end with exit code 75."""
        for member in self.alive:
            member.asked = True
            member.process.send(signal.SIGTERM)

    def kill(self, *, sparing: Phase | None = None) -> None:
        """SIGKILL what is left, but for ranks in the phase `sparing`."""
        for member in self.alive:
            if sparing is None or member.phase is not sparing:
                member.killed = True
                member.process.send(signal.SIGKILL)

    def checkpoint(self) -> int:
        """Ask the ranks that run the cell for a checkpoint; returns how many those are."""
        asked = [member for member in self.alive if member.phase is Phase.RUNNING]
        for member in asked:
            member.process.send(signal.SIGUSR2)
        return len(asked)

    def dump_stacks(self) -> None:
        """Have every rank write its threads' stacks to its log; a bare interpreter would die of it."""
        for member in self.alive:
            if member.phase >= Phase.BORN:
                member.process.send(signal.SIGUSR1)

    def progress(self) -> dict[int, Progress]:
        return {m.rank: read_progress(self.paths.progress(m.rank)) for m in self.members}

    def forget(self) -> None:
        """Remove what the last start has left behind, which the next must not read as its own."""
        for rank in range(self.spec.world_size):
            paths = self.paths
            for path in (paths.progress(rank), paths.exit_code(rank), paths.failure(rank)):
                path.unlink(missing_ok=True)
        # What rank 0 brought back when another rank had gone.
        shutil.rmtree(self.paths.result, ignore_errors=True)

    def close(self) -> None:
        for fd in (self.report_fd, self._report_end, *self._lifelines):
            os.close(fd)
        for member in self.members:
            member.process.close()
