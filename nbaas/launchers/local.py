"""Ranks as children of the supervisor, on this host."""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nbaas.engines.base import EngineFactory, Rendezvous
from nbaas.launchers.environment import rank_environment
from nbaas.launchers.processes import Command, spawn
from nbaas.records import JobPaths, JobSpec, Slot

Slots = Sequence[Slot]


class RankProcess(Protocol):
    """A rank that was started, whoever its parent is."""

    pid: int
    pidfd: int  # readable once the rank has ended

    def exit_code(self) -> int | None: ...
    def send(self, number: signal.Signals) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class RankStart:
    """What a launcher needs to start one rank; the two pipes stay the supervisor's."""

    spec: JobSpec
    slot: Slot
    paths: JobPaths
    engine_env: Mapping[str, str]
    lifeline: int  # read end: it hangs up when the supervisor ends
    report: int  # write end: "<rank> <phase>" lines

    @property
    def environment(self) -> dict[str, str]:
        return rank_environment(self.spec, self.slot, self.engine_env)

    @property
    def cwd(self) -> Path:
        """The notebook's folder, or the job's where that has gone."""
        wanted = Path(self.spec.cwd)
        return wanted if self.spec.cwd and wanted.is_dir() else self.paths.root


class Launcher(Protocol):
    """Makes ranks of commands; driven by the supervisor's one loop, in which nothing may wait."""

    def open(self, selector: selectors.BaseSelector) -> None:
        """Begin to reach what ranks need; raises NbaasError where that is in vain."""

    @property
    def ready(self) -> bool:
        """Whether ranks can be started; raises NbaasError where they never will be."""

    @property
    def waiting_for(self) -> str:
        """Why the job has to wait for room elsewhere; '' when it does not."""

    @property
    def shipped(self) -> dict[str, int]:
        """Bytes that were sent to each other host."""

    @property
    def children(self) -> list[int]:
        """Child processes that the launcher collects itself."""

    def turn(self) -> None:
        """Do what is due; called at least twice a second."""

    def rendezvous(self, engine: EngineFactory, paths: JobPaths, slots: Slots) -> Rendezvous:
        """Open the meeting place of one start of the gang."""

    def start(self, rank: RankStart) -> RankProcess:
        """Return the started rank; called from the main thread of the supervisor."""

    def close(self) -> None: ...


class OnThisHost:
    """A launcher's part that has nothing to do where all ranks are on this host."""

    ready = True
    waiting_for = ""

    def __init__(self) -> None:
        self.shipped: dict[str, int] = {}
        self.children: list[int] = []

    def open(self, selector: selectors.BaseSelector) -> None:
        pass

    def turn(self) -> None:
        pass

    def rendezvous(self, engine: EngineFactory, paths: JobPaths, slots: Slots) -> Rendezvous:
        return engine.rendezvous(paths.root, slots)

    def close(self) -> None:
        pass


class LocalLauncher(OnThisHost):
    """Starts each rank in an interpreter of its own: the cold path."""

    def start(self, rank: RankStart) -> RankProcess:
        ties = {
            "NBAAS_PARENT": str(os.getpid()),
            "NBAAS_LIFELINE": str(rank.lifeline),
            "NBAAS_REPORT": str(rank.report),
        }
        process = spawn(
            Command(
                # -P: a module of the notebook's folder must not shadow what nbaas imports.
                argv=(
                    *(rank.spec.python, "-P", "-m", "nbaas.worker"),
                    *(str(rank.paths.root), str(rank.slot.rank)),
                ),
                env={**rank.environment, **ties},
                cwd=rank.cwd,
                log=rank.paths.log(rank.slot.rank),
                keep=(rank.lifeline, rank.report),
            )
        )
        self.children.append(process.pid)
        return process
