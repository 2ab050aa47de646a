"""Where a rank is, as eight counters in a file that is mapped and rewritten in place.

Written on the training thread in under a microsecond; read by the supervisor (does it move?) and by
whoever shows the job.  A reader may see two counters of neighbouring moments: they are for display.
"""

from __future__ import annotations

import enum
import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

LAYOUT = struct.Struct("<8Q")
NUMBER = struct.Struct("<Q")
STEP = struct.Struct("<QQQQ")  # step, epoch, step_ns, moved_ns
BATCH = struct.Struct("<QQQ")  # moved_ns, batch, batches
STEP_AT, MOVED_AT = 8, 32  # bytes


class Phase(enum.IntEnum):
    """How far a rank has come."""

    ABSENT = 0
    BORN = 1  # the interpreter runs
    JOINED = 2  # the engine has started on all ranks
    RUNNING = 3  # the cell's own code
    RETURNING = 4  # the result is written
    DONE = 5


@dataclass(frozen=True, slots=True)
class Progress:
    phase: Phase = Phase.ABSENT
    step: int = 0  # optimizer steps finished
    epoch: int = 0
    step_time: float = 0.0  # seconds, the last step
    moved: float = 0.0  # CLOCK_MONOTONIC of the last step or batch, seconds
    batch: int = 0
    batches: int = 0  # of this epoch; 0 where nobody knows


class ProgressWriter:
    """Keeps one rank's counters; one thread calls it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Not ftruncate: writing into a mapped hole of a full disk is a SIGBUS.
            os.posix_fallocate(fd, 0, LAYOUT.size)
            self._map = mmap.mmap(fd, LAYOUT.size)
        finally:
            os.close(fd)
        self._last_step = time.monotonic_ns()

    def phase(self, phase: Phase) -> None:
        now = time.monotonic_ns()
        self._last_step = now
        NUMBER.pack_into(self._map, MOVED_AT, now)
        NUMBER.pack_into(self._map, 0, phase)

    def step(self, step: int, epoch: int) -> None:
        now = time.monotonic_ns()
        STEP.pack_into(self._map, STEP_AT, step, epoch, now - self._last_step, now)
        self._last_step = now

    def batch(self, batch: int, batches: int | None) -> None:
        BATCH.pack_into(self._map, MOVED_AT, time.monotonic_ns(), batch, batches or 0)


def read_progress(path: Path) -> Progress:
    """Return a rank's counters; Progress() where the rank has written none."""
    try:
        data = path.read_bytes()
    except OSError:
        return Progress()
    if len(data) < LAYOUT.size:
        return Progress()
    phase, step, epoch, step_ns, moved_ns, batch, batches, _ = LAYOUT.unpack_from(data)
    known = Phase(phase) if phase <= Phase.DONE else Phase.DONE
    return Progress(known, step, epoch, step_ns / 1e9, moved_ns / 1e9, batch, batches)
