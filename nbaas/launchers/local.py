"""Ranks as children of the supervisor, on this host."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nbaas.launchers.environment import rank_environment
from nbaas.launchers.processes import Command, spawn
from nbaas.records import JobPaths, JobSpec, Slot


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
    def start(self, rank: RankStart) -> RankProcess:
        """Return the started rank; called from the main thread of the supervisor."""

    def close(self) -> None: ...


class LocalLauncher:
    """Starts each rank in an interpreter of its own: the cold path."""

    def start(self, rank: RankStart) -> RankProcess:
        ties = {
            "NBAAS_PARENT": str(os.getpid()),
            "NBAAS_LIFELINE": str(rank.lifeline),
            "NBAAS_REPORT": str(rank.report),
        }
        return spawn(
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

    def close(self) -> None:
        pass
