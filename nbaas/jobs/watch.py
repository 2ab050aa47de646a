"""What a supervisor does by the clock: heartbeat, metrics to disk, looking for ranks that hang.

Rule: CLOCK_MONOTONIC only; a jump of the wall clock changes nothing but what is displayed.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from nbaas.jobs.room import is_scarce, trim_log
from nbaas.launchers.processes import boot_id
from nbaas.records import JobPaths
from nbaas.worker.progress import Phase, Progress

SYNC_INTERVAL = 1.0  # seconds
UNRESPONSIVE_AFTER = 2.0  # seconds without a heartbeat


class Heartbeat:
    """Rewrites `<boot id> <CLOCK_MONOTONIC>` in place; never synced, it is for readers of today."""

    def __init__(self, path: Path) -> None:
        self._boot = boot_id()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def beat(self) -> None:
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, f"{self._boot} {time.monotonic():.3f}\n".encode(), 0)

    @property
    def removed(self) -> bool:
        """Whether the file was deleted, and the job's folder with it."""
        return os.fstat(self._fd).st_nlink == 0

    def close(self) -> None:
        os.close(self._fd)


def heartbeat_age(path: Path) -> float | None:
    """Return the seconds since the last heartbeat, None where none of this boot is on file."""
    try:
        boot, moment = path.read_text().split()
        return time.monotonic() - float(moment) if boot == boot_id() else None
    except (OSError, ValueError):
        return None


class DiskKeeper:
    """Once a second, in a thread since a disk may block: metric journals are synced, logs cut."""

    def __init__(self, paths: JobPaths, world_size: int) -> None:
        self.scarce = False  # the disk is all but full
        self.cut = 0  # bytes of logs given back
        self._root = paths.root
        self._logs = [paths.log(rank) for rank in range(world_size)]
        self._files = [paths.metrics(rank) for rank in range(world_size)]
        self._sizes = [0] * world_size
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Return once all that ranks have written is on the disk."""
        self._stopped.set()
        self._thread.join()
        self._sync()
        self._trim()

    def _trim(self) -> None:
        self.cut += sum(trim_log(log) for log in self._logs)

    def _run(self) -> None:
        while not self._stopped.wait(SYNC_INTERVAL):
            self._sync()
            self._trim()
            self.scarce = is_scarce(self._root)

    def _sync(self) -> None:
        for index, path in enumerate(self._files):
            with contextlib.suppress(OSError):
                size = path.stat().st_size
                if size == self._sizes[index]:
                    continue
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fdatasync(fd)
                finally:
                    os.close(fd)
                self._sizes[index] = size


class StallWatch:
    """Says which ranks of a running gang have not moved for `timeout` seconds; 0 is off."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout

    def stalled(self, progress: Mapping[int, Progress], now: float) -> list[int]:
        """Return the ranks in their cell that made no step and took no batch for too long."""
        if not self._timeout:
            return []
        return [
            rank
            for rank, seen in progress.items()
            if seen.phase is Phase.RUNNING and now - seen.moved > self._timeout
        ]
