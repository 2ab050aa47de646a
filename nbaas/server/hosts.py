"""What this machine has and how much of it is in use, as the panel shows it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import psutil

from nbaas.launchers.devices import this_host

FIELDS = ("index", "name", "memory.used", "memory.total", "utilization.gpu", "temperature.gpu")
QUERY_TIMEOUT = 5.0  # seconds; a driver that hangs must not hold a thread for ever


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU; bytes, percent, degrees Celsius; None where the driver does not say."""

    index: int
    name: str
    memory_used: int
    memory_total: int
    use: int | None
    temperature: int | None
    jobs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostRow:
    """A host in a list; memory in bytes, `load` the mean of the last minute."""

    name: str
    cores: int
    load: float
    memory_used: int
    memory_total: int
    ranks: int  # that run here
    gpus: tuple[Gpu, ...]


def read_host(holders: Iterable[tuple[int, str]], ranks: int) -> HostRow:
    """Return this host's row; `holders` are (GPU index, job name), `ranks` how many run here."""
    here = this_host()
    memory = psutil.virtual_memory()
    return HostRow(
        name=here.name,
        cores=here.cores,
        load=os.getloadavg()[0],
        memory_used=memory.total - memory.available,
        memory_total=memory.total,
        ranks=ranks,
        gpus=tuple(held(read_gpus(), holders)),
    )


def held(gpus: Sequence[Gpu], holders: Iterable[tuple[int, str]]) -> list[Gpu]:
    """Return the GPUs with the names of the jobs that hold each."""
    names: dict[int, set[str]] = {}
    for index, name in holders:
        names.setdefault(index, set()).add(name)
    return [replace(gpu, jobs=tuple(sorted(names.get(gpu.index, ())))) for gpu in gpus]


def read_gpus() -> list[Gpu]:
    """Return the GPUs as nvidia-smi lists them; none without a driver."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        listed = subprocess.run(
            (command, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"),
            capture_output=True,
            text=True,
            timeout=QUERY_TIMEOUT,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return gpus_from(listed)


def gpus_from(listed: str) -> list[Gpu]:
    """Return the GPUs of nvidia-smi's lines; MiB become bytes, '[N/A]' becomes None."""
    rows = [[cell.strip() for cell in line.split(",")] for line in listed.splitlines()]
    return [
        Gpu(
            index=int(row[0]),
            name=row[1],
            memory_used=(_number(row[2]) or 0) << 20,
            memory_total=(_number(row[3]) or 0) << 20,
            use=_number(row[4]),
            temperature=_number(row[5]),
        )
        for row in rows
        if len(row) == len(FIELDS)
    ]


def _number(cell: str) -> int | None:
    return int(cell) if cell.isdigit() else None
