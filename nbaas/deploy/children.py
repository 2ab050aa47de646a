"""The host's child processes: the gateway and the replicas, started, watched and ended.

Rules: each child dies with the host (PR_SET_PDEATHSIG and the lifeline, a pipe that the host holds);
a child that ends is started again after a pause that grows while it keeps ending; a child that never
became ready five times in five minutes is given up, and says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nbaas.config import own_folder
from nbaas.launchers.processes import Command, spawn

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds
MEMORY = 60.0  # deaths older than this are forgotten
GIVE_UP_AFTER, GIVE_UP_WITHIN = 5, 300.0
LOG_TAIL = 2000  # bytes
LOG_LIMIT = 16 << 20


@dataclass(slots=True)
class Backoff:
    """How long to pause before the next start; time is an argument."""

    deaths: deque[float] = field(default_factory=deque)
    unready: deque[float] = field(default_factory=deque)  # deaths before it was ready

    def pause(self, now: float, *, was_ready: bool) -> float | None:
        """Return the pause after a death at `now`, in seconds; None: do not start it again."""
        while self.deaths and now - self.deaths[0] > MEMORY:
            self.deaths.popleft()
        while self.unready and now - self.unready[0] > GIVE_UP_WITHIN:
            self.unready.popleft()
        if was_ready:
            self.unready.clear()
        else:
            self.unready.append(now)
        self.deaths.append(now)
        if len(self.unready) >= GIVE_UP_AFTER:
            return None
        # Somebody's kill -9 now and then is met at once; only a run of deaths is slowed down.
        recent = sum(now - death < MEMORY / 6 for death in self.deaths)
        return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (recent - 1)))


class Watched(Protocol):
    """A process of ours: launchers' Process, or one that was adopted."""

    pid: int
    pidfd: int

    def exit_code(self) -> int | None: ...
    def send(self, number: signal.Signals) -> None: ...
    def close(self) -> None: ...


class Child:
    """One process, watched by its pidfd from the event loop."""

    def __init__(self, process: Watched, on_exit: Callable[[int], None]) -> None:
        self.process = process
        self.pid = process.pid
        self.exited = asyncio.Event()
        self.code: int | None = None
        self._on_exit = on_exit
        asyncio.get_running_loop().add_reader(process.pidfd, self._ended)

    def _ended(self) -> None:
        code = self.process.exit_code()
        if code is None:
            return
        asyncio.get_running_loop().remove_reader(self.process.pidfd)
        self.process.close()
        self.code = code
        self.exited.set()
        self._on_exit(code)

    def send(self, number: signal.Signals) -> None:
        if self.code is None:
            self.process.send(number)

    async def end(self, grace: float) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds; returns when it is gone."""
        self.send(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self.exited.wait()
        self.send(signal.SIGKILL)
        await self.exited.wait()


def start_child(
    module: str,
    arguments: list[str],
    *,
    env: Mapping[str, str],
    log: Path,
    keep: tuple[int, ...],
    on_exit: Callable[[int], None],
) -> Child:
    """Start `python -P -m module arguments...`; called from the main thread."""
    rotate(log)
    argv = (sys.executable, "-P", "-m", module, *arguments)
    return Child(spawn(Command(argv, env, Path("/"), log, keep)), on_exit)


def rotate(log: Path) -> None:
    """Set a log aside that has grown over LOG_LIMIT; make its folder."""
    own_folder(log.parent)
    with contextlib.suppress(OSError):
        if log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".old"))


async def first_line(fd: int) -> dict[str, Any] | None:
    """Return the JSON line a child writes to its pipe; None where it ended without one."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    pipe = os.fdopen(fd, "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        line = await reader.readline()
    finally:
        transport.close()
    with contextlib.suppress(ValueError):
        content = json.loads(line)
        return content if isinstance(content, dict) else None
    return None


def log_tail(log: Path) -> str:
    """Return the last line of a log that says something."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_TAIL))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""
