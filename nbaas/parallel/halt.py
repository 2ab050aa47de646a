"""Ends a cell that was asked to stop and makes no training step: on all ranks at one place of it.

Ranks that stop between different collectives would wait for each other for ever.  So each first holds
still before its next collective or statement and says on a page of shared memory how far it is; all go on
to where the foremost one is, and no further.  A statement that takes long is left by an exception, raised
by a signal in the main thread, where only the user's own code or a library is running.
"""

from __future__ import annotations

import mmap
import os
import signal
import statistics
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

PATIENCE = 1.0  # seconds without a step before a stop no longer waits for one
LONG_STEPS = 2  # or so many times the usual time of one
LEAVING = 0.5  # seconds to come to the place that all agreed on, before the statement is left
LOOKING = 0.05  # seconds between two looks at the page
WORD = 8  # bytes
ENTRY = 3  # words of each rank: 1 where it holds still, its collectives, its places
_OURS = str(Path(__file__).parents[1]) + os.sep
# Nothing of the user's is below them but what it waits for.
_RUNS_THE_CELL = frozenset(
    os.path.join(_OURS, "bundle", name)  # noqa: PTH118 - compared as text
    for name in ("cells.py", "commands.py", "frontend.py")
)


class StopTraining(BaseException):
    """Raised on every rank after the same optimizer step when a stop was asked for, or by a `Halt`."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a rank has come in its cell."""

    collectives: int
    places: int


class Halt:
    """One rank's part in it; `page` is a file that all ranks open, None for a rank by itself."""

    def __init__(self, page: Path | None, rank: int, world_size: int) -> None:
        self.rank, self.world_size = rank, world_size
        self.collectives = 0
        self.places = 0
        self.steps = 0
        self.stepping = False  # within an optimizer's step, which is finished
        self.closed = False  # this rank holds still at its next place
        self.target: Reached | None = None  # where all ranks leave the cell
        self.left = False  # StopTraining was raised
        self._possible = page is not None or world_size == 1
        self._agreed = threading.Event()
        self._asked = False
        self._ended: Reached | None = None  # the cell is over
        self._leave_after = 0.0
        self._step_times: deque[float] = deque((0.0,), maxlen=9)
        self._last_step = 0.0
        self._words = _opened(page, rank, world_size) if page is not None else None

    # ---- on the main thread ------------------------------------------------------------------------

    def ask(self, frame: FrameType | None) -> None:
        """Raise StopTraining out of `frame` where all have agreed to stop and no place comes.

        Called by a signal handler, so it takes no lock.
        """
        if self._may_leave(frame):
            self.left = True
            raise StopTraining

    def _may_leave(self, frame: FrameType | None) -> bool:
        target = self.target
        if target is None or self._ended or time.monotonic() < self._leave_after:
            return False
        if self.stepping or self.collectives != target.collectives or _is_leaving():
            return False
        return in_users_code(frame)

    @property
    def is_awaited(self) -> bool:
        """Whether other ranks, which are to stop, wait for this one in a collective."""
        return self.target is not None and self.collectives < self.target.collectives

    def begin(self) -> None:
        """Note that a collective begins."""
        self.collectives += 1
        if self.closed and self._ended is None and not self._waits():
            self.collectives -= 1
            self.left = True
            raise StopTraining

    def place(self) -> None:
        """Note that the cell is between two of its statements; every rank comes to the same ones."""
        self.places += 1
        if self.closed and self._ended is None and not self._waits():
            self.places -= 1
            self.left = True
            raise StopTraining

    def _waits(self) -> bool:
        """Return, once all ranks agree, whether this one may go on."""
        self._agreed.wait()
        target = self.target
        if target is None or self.stepping:
            return True
        return self.collectives <= target.collectives and (
            self.collectives < target.collectives or self.places <= target.places
        )

    def step(self) -> None:
        """Note that a step is done; the one after which the cell ends is the last."""
        now = time.monotonic()
        if self._last_step:
            self._step_times.append(now - self._last_step)
        self._last_step = now
        self.steps += 1
        self.stepping = False
        target = self.target
        if target is not None and self.collectives >= target.collectives:
            self.left = True
            raise StopTraining

    def end(self) -> Reached:
        """Note that the cell is over, and return how far it came; what follows is ours."""
        ended = self._ended = self._ended or Reached(self.collectives, self.places)
        return ended

    def close(self) -> None:
        self.target = self.target or self.end()
        self.end()
        self._agreed.set()

    # ---- on a thread of its own, as the main one may wait in C for the other ranks ------------------

    def watch(self) -> None:
        """Find a place to stop, now that it was asked for; returns when the cell is over."""
        if not self._possible or self._asked:
            return
        self._asked = True
        steps, since = self.steps, time.monotonic()
        patience = max(PATIENCE, LONG_STEPS * statistics.median(self._step_times))
        while time.monotonic() < since + patience:
            time.sleep(LOOKING)
            if self._agreed.is_set():
                return
            if self.steps != steps:
                steps, since = self.steps, time.monotonic()
        self._agree()
        main = threading.main_thread().ident
        while main is not None and self._ended is None:
            if time.monotonic() > self._leave_after:
                signal.pthread_kill(main, signal.SIGTERM)
            time.sleep(LOOKING)

    def _agree(self) -> None:
        """Hold this rank still and wait until all do; `target` is then the same on each."""
        # In this order: a collective that is not counted here finds the rank closed.
        self.closed = self._ended is None
        mine = self._ended or Reached(self.collectives, self.places)
        reached = [mine] if self._words is None else self._exchange(self._words, mine)
        self.target = Reached(
            max(one.collectives for one in reached), max(one.places for one in reached)
        )
        self._leave_after = time.monotonic() + LEAVING
        self._agreed.set()

    def _exchange(self, words: memoryview[int], mine: Reached) -> list[Reached]:
        start = self.rank * ENTRY
        words[start + 1], words[start + 2] = mine.collectives, mine.places
        words[start] = 1  # last: who sees it reads the others whole
        while not all(words[rank * ENTRY] for rank in range(self.world_size)):
            if self._agreed.is_set():
                return [mine]
            time.sleep(LOOKING)
        entries = (words[rank * ENTRY : (rank + 1) * ENTRY] for rank in range(self.world_size))
        return [Reached(entry[1], entry[2]) for entry in entries]


def _opened(page: Path, rank: int, world_size: int) -> memoryview[int]:
    """Return the words of the page, this rank's entry cleared of what an earlier start left."""
    page.parent.mkdir(parents=True, exist_ok=True)
    size = WORD * ENTRY * world_size
    descriptor = os.open(page, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
        words = memoryview(mmap.mmap(descriptor, size)).cast("Q")
    finally:
        os.close(descriptor)
    for word in range(rank * ENTRY, (rank + 1) * ENTRY):
        words[word] = 0
    return words


def in_users_code(frame: FrameType | None) -> bool:
    """Return whether the user's code runs in `frame`, or a library that it has called: none of ours."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name in _RUNS_THE_CELL:
            return True
        if name.startswith(_OURS):
            return False
        if frame.f_globals.get("__name__") == "__main__":
            return True
        frame = frame.f_back
    return False


def _is_leaving() -> bool:
    """Return whether a `finally` or `with` of the user's is at work after StopTraining already."""
    error = sys.exception()
    while error is not None:
        if isinstance(error, StopTraining):
            return True
        error = error.__context__
    return False
