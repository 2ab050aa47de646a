"""What this host offers to ranks: cores this process may use, and GPUs; torch is not imported."""

from __future__ import annotations

import math
import os
import shutil
import socket
import subprocess
from pathlib import Path

from nbaas.placement import HostResources

QUERY = ("--query-gpu=name", "--format=csv,noheader")
QUERY_TIMEOUT = 5.0  # seconds; a driver that hangs must not hang the notebook
CGROUP = Path("/sys/fs/cgroup")


def this_host() -> HostResources:
    """Return this host's name, usable cores and GPUs by CUDA index."""
    return HostResources(name=socket.gethostname(), cores=usable_cores(), gpus=visible_gpus())


def usable_cores() -> int:
    """Return how many cores ranks may keep busy: affinity and the cgroup's quota, at least 1."""
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    cores = len(affinity) or os.cpu_count() or 1
    quota = cgroup_quota()
    return max(1, min(cores, math.ceil(quota)) if quota else cores)


def cgroup_quota(root: Path = CGROUP) -> float | None:
    """Return the cores a container may use by its CPU quota, None where there is no limit."""
    try:
        allowed, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            allowed = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if allowed in ("max", "-1"):
        return None
    return int(allowed) / int(period)


def visible_gpus() -> tuple[str, ...]:
    """Return the model names of the GPUs that CUDA_VISIBLE_DEVICES leaves; none without a driver."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    try:
        listed = subprocess.run(
            (command, *QUERY), capture_output=True, text=True, timeout=QUERY_TIMEOUT, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    names = tuple(line.strip() for line in listed.splitlines() if line.strip())
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return names
    return tuple(_named(entry, names) for entry in chosen.split(",") if _is_device(entry, names))


def _is_device(entry: str, names: tuple[str, ...]) -> bool:
    entry = entry.strip()
    return entry.startswith(("GPU-", "MIG-")) or (entry.isdigit() and int(entry) < len(names))


def _named(entry: str, names: tuple[str, ...]) -> str:
    return names[int(entry)] if entry.strip().isdigit() else names[0] if names else entry
