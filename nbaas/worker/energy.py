"""Energy that a rank has used, where the machine tells: RAPL for the processor, NVML for its GPU.

Rule: what cannot be read is left out, never guessed here; a counter that goes round is followed.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RAPL = Path("/sys/class/powercap")
STAT = Path("/proc/stat")
IDLE = slice(3, 5)  # of the numbers in /proc/stat: idle, iowait
TICK = os.sysconf("SC_CLK_TCK")


class Package:
    """One processor package's energy counter, in microjoules."""

    def __init__(self, folder: Path) -> None:
        self._counter = folder / "energy_uj"
        self._range = int((folder / "max_energy_range_uj").read_text())
        self._last = int(self._counter.read_text())

    def joules(self) -> float:
        """Return what was used since the last call."""
        now = int(self._counter.read_text())
        used = now - self._last if now >= self._last else now + self._range - self._last
        self._last = now
        return used / 1e6


def packages(root: Path = RAPL) -> list[Package]:
    """Return the packages whose counters this user may read; most systems leave that to root."""
    found = []
    for folder in sorted(root.glob("intel-rapl:[0-9]")):
        try:
            found.append(Package(folder))
        except (OSError, ValueError):
            return []
    return found


def busy_seconds(stat: Path = STAT) -> float:
    """Return the processor seconds that this host has spent on anything since it started."""
    numbers = [int(word) for word in stat.read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(numbers) - sum(numbers[IDLE])) / TICK


class ProcessorEnergy:
    """This rank's share of the packages' energy: by its part of the host's busy seconds."""

    def __init__(self, parts: Sequence[Package], stat: Path = STAT) -> None:
        self._parts = parts
        self._stat = stat
        self._busy = busy_seconds(stat) if parts else 0.0

    def joules(self, processor_seconds: float) -> float | None:
        """Return what was used since the last call, in which this rank ran `processor_seconds`."""
        if not self._parts:
            return None
        try:
            busy = busy_seconds(self._stat)
            used = sum(part.joules() for part in self._parts)
        except (OSError, ValueError, IndexError):
            return None
        host, self._busy = busy - self._busy, busy
        return used * min(1.0, processor_seconds / host) if host > 0 else 0.0


class Gpu:
    """The GPU of this process as NVML sees it: the whole device, which the rank has to itself."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._last = self._energy()

    def _energy(self) -> int | None:
        try:
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except self._nvml.NVMLError:
            return None  # cards before Volta do not count

    def joules(self) -> float | None:
        """Return what was used since the last call."""
        before, self._last = self._last, self._energy()
        return None if before is None or self._last is None else (self._last - before) / 1000

    def use(self) -> float | None:
        """Return the part of the last second or so in which a kernel ran, in percent."""
        try:
            return float(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu)
        except self._nvml.NVMLError:
            return None


def gpu_of_this_process() -> Gpu | None:
    """Return the current CUDA device; None without CUDA in use, or without `nvidia-ml-py`."""
    cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)
    # Asking a CUDA context that does not exist would create one; torch may be half imported.
    if not getattr(cuda, "is_initialized", bool)():
        return None
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except ImportError:
        return None
    except Exception:  # noqa: BLE001 - the driver's library is missing or too old, by many names
        return None
    try:
        # NVML counts all devices of the host, CUDA those that are visible: the name is the same.
        uuid = f"GPU-{cuda.get_device_properties(cuda.current_device()).uuid}"
        return Gpu(nvml, nvml.nvmlDeviceGetHandleByUUID(uuid.encode()))
    except (nvml.NVMLError, AttributeError):
        return None
