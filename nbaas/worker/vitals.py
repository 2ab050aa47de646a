"""The `sys` rows of a rank: memory, processor and device, once a second from a thread of its own."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Protocol

from nbaas.worker.energy import Gpu, ProcessorEnergy, gpu_of_this_process, packages
from nbaas.worker.metrics import MetricsWriter

INTERVAL = 1.0  # seconds
PAGE = os.sysconf("SC_PAGE_SIZE")
TOTALS = ("cpu_seconds", "cpu_energy", "gpu_energy")  # counted from the job's first start on


class Waits(Protocol):
    """What knows the seconds spent waiting for other ranks."""

    waited: float


class Vitals:
    """Adds a row per second to `metrics` until closed, and a last one then.

    Series: rss (bytes), cpu (percent of one core), step_time and wait (seconds a step, the mean since
    the last row; no value without a step); on a GPU gpu_memory and gpu_reserved (bytes), gpu_use
    (percent).  Totals: cpu_seconds, and where the machine tells cpu_energy and gpu_energy (joules);
    `before` are those of an earlier start of the job.
    """

    def __init__(
        self, metrics: MetricsWriter, waits: Waits, before: dict[str, float] | None = None
    ) -> None:
        self.step = 0
        self.epoch = 0
        self.stepping = 0.0  # seconds spent in steps
        self._metrics = metrics
        self._waits = waits
        self._totals = {name: value for name, value in (before or {}).items() if name in TOTALS}
        self._processor = ProcessorEnergy(packages())
        self._gpu: Gpu | None = None
        self._last = (time.monotonic(), _cpu_seconds())
        self._steps = (0, 0.0, 0.0)  # step, stepping, waited at the last row
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vitals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL):
            self._add_row()
        self._add_row()

    def _add_row(self) -> None:
        now = (time.monotonic(), _cpu_seconds())
        seconds, used = now[0] - self._last[0], now[1] - self._last[1]
        self._last = now
        device = self._device()
        self._count("cpu_seconds", used)
        self._count("cpu_energy", self._processor.joules(used))
        values = {
            "rss": float(resident_bytes(os.getpid())),
            "cpu": 100 * used / max(seconds, 1e-9),
            **self._step_values(),
            **device,
            **self._totals,
        }
        self._metrics.add(self.step, self.epoch, values, "sys")

    def _step_values(self) -> dict[str, float]:
        step, stepping, waited = now = (self.step, self.stepping, self._waits.waited)
        steps = step - self._steps[0]
        before, self._steps = self._steps, now
        if steps <= 0:
            return {}
        times = {"step_time": (stepping - before[1]) / steps, "wait": (waited - before[2]) / steps}
        # One whose wait began before the last row and ended after it shows more than its own time.
        return {"step_time": times["step_time"], "wait": min(times.values())}

    def _count(self, name: str, amount: float | None) -> None:
        if amount is not None:
            self._totals[name] = self._totals.get(name, 0.0) + amount

    def _device(self) -> dict[str, float]:
        cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)
        # Asking a CUDA context that does not exist would create one; torch may be half imported.
        if not getattr(cuda, "is_initialized", bool)():
            return {}
        self._gpu = self._gpu or gpu_of_this_process()
        values = {
            "gpu_memory": float(cuda.memory_allocated()),
            "gpu_reserved": float(cuda.memory_reserved()),
        }
        if self._gpu is not None:
            self._count("gpu_energy", self._gpu.joules())
            if (use := self._gpu.use()) is not None:
                values["gpu_use"] = use
        return values


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process; 0 where /proc does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return 0
