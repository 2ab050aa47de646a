"""What is counted while a run is watched: progress, throughput, how long each rank waits."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

RATE_WINDOW = 3.0  # seconds over which the samples per second are averaged


@dataclass(slots=True)
class WaitMeter:
    """The part of its time that a rank waits for others: lately, and since the run began."""

    step: float | None = None  # seconds of a step, lately
    wait: float | None = None
    stepping: float = 0.0  # seconds, since the run began
    waiting: float = 0.0
    _counted: int = 0  # steps

    def add(self, step: int, step_time: float, wait: float) -> None:
        """Take the means of the steps up to `step` that were not taken yet."""
        self.step = _blend(self.step, step_time)
        self.wait = _blend(self.wait, wait)
        steps, self._counted = max(0, step - self._counted), step
        self.stepping += steps * step_time
        self.waiting += steps * wait

    @property
    def share(self) -> float | None:
        return None if self.wait is None or not self.step else min(1.0, self.wait / self.step)


@dataclass(slots=True)
class RankLine:
    """The newest that is known of one rank; bytes and seconds, `cpu` in cores."""

    rank: int
    state: str = "waiting"
    step: int | None = None
    step_time: float | None = None
    wait: float | None = None  # seconds of a step spent waiting for other ranks
    memory: float | None = None
    cpu: float | None = None
    gpu_memory: float | None = None
    gpu_use: float | None = None  # percent
    slow: bool = False  # the others wait for it
    waits: WaitMeter = field(default_factory=WaitMeter)

    def view(self) -> dict[str, Any]:
        shown = {
            "rank": self.rank,
            "state": self.state,
            "step": self.step,
            "step_ms": None if self.step_time is None else 1000 * self.step_time,
            "wait": self.waits.share,
            "memory": self.memory,
            "cpu": self.cpu,
            "slow": self.slow,
        }
        return shown if self.gpu_memory is None else {**shown, "gpu": self._gpu()}

    def _gpu(self) -> str:
        use = "" if self.gpu_use is None else f" · {self.gpu_use:.0f} %"
        return _gigabytes(self.gpu_memory or 0.0) + use


@dataclass(slots=True)
class Progress:
    """How far the loop is; None where nobody knows the end."""

    epoch: int = 0
    epochs: int | None = None
    batch: int = 0
    batches: int | None = None

    @property
    def part(self) -> float | None:
        """The part of the whole run that is done, of the epoch where the epochs are unknown."""
        in_epoch = self.batch / self.batches if self.batches else None
        if not self.epochs or in_epoch is None or not self.epoch:
            return in_epoch
        return min(1.0, (self.epoch - 1 + in_epoch) / self.epochs)


@dataclass(slots=True)
class Rate:
    """Samples per second over the last RATE_WINDOW seconds of steps."""

    recent: deque[tuple[float, float]] = field(default_factory=deque)  # time, samples
    best: float = 0.0

    def add(self, moment: float, samples: float) -> None:
        self.recent.append((moment, samples))
        while len(self.recent) > 2 and moment - self.recent[0][0] > RATE_WINDOW:  # noqa: PLR2004 - a rate needs two
            self.recent.popleft()
        if self.recent[-1][0] - self.recent[0][0] > RATE_WINDOW / 2:
            self.best = max(self.best, self.now)

    @property
    def now(self) -> float:
        seconds = self.recent[-1][0] - self.recent[0][0] if self.recent else 0.0
        samples = sum(count for _, count in list(self.recent)[1:])
        return samples / seconds if seconds > 0 else 0.0


def _blend(old: float | None, new: float) -> float:
    """Return a mean that forgets: a rank that was slow for a second is no straggler."""
    return new if old is None else 0.7 * old + 0.3 * new


def _gigabytes(count: float) -> str:
    return f"{count / (1 << 30):.1f} GB"
