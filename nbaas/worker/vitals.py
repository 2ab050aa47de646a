"""The `sys` rows of a rank: memory, processor and device, once a second from a thread of its own."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from nbaas.worker.metrics import MetricsWriter

INTERVAL = 1.0  # seconds
PAGE = os.sysconf("SC_PAGE_SIZE")


class Vitals:
    """Adds a row per second to `metrics` until closed.

    Series: rss (bytes), cpu (percent of one core), step_time (seconds, last step); on a GPU
    gpu_memory and gpu_reserved (bytes).
    """

    def __init__(self, metrics: MetricsWriter) -> None:
        self.step = 0
        self.epoch = 0
        self.step_time = 0.0
        self._metrics = metrics
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vitals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        last = (time.monotonic(), _cpu_seconds())
        while not self._stopped.wait(INTERVAL):
            now = (time.monotonic(), _cpu_seconds())
            values = {
                "rss": float(resident_bytes(os.getpid())),
                "cpu": 100 * (now[1] - last[1]) / max(now[0] - last[0], 1e-9),
                "step_time": self.step_time,
                **_device(),
            }
            last = now
            self._metrics.add(self.step, self.epoch, values, "sys")


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process; 0 where /proc does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return 0


def _device() -> dict[str, float]:
    cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)
    # Asking a CUDA context that does not exist would create one; torch may be half imported.
    if not getattr(cuda, "is_initialized", bool)():
        return {}
    return {
        "gpu_memory": float(cuda.memory_allocated()),
        "gpu_reserved": float(cuda.memory_reserved()),
    }
