"""What a host has that ranks need, and what another host lacks beside it.

Rule: nothing heavy is imported: versions are read from what is installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbaas._version import __version__
from nbaas.config import Settings
from nbaas.engines.horovod import built_for, installed
from nbaas.launchers.devices import usable_cores, visible_gpus
from nbaas.records import Host

LEAST_FREE = 256 << 20  # bytes
CLOCK_SKEW = 10.0  # seconds; metrics carry each host's own time


@dataclass(frozen=True, slots=True)
class HostFacts:
    """A host as its agent describes it; bytes, seconds since the epoch."""

    hostname: str
    executable: str
    versions: dict[str, str]  # python, nbaas, torch, cloudpickle, horovod (the torch it is for)
    cores: int
    gpus: tuple[str, ...]
    busy_ranks: int  # on the CPU, of this user's jobs
    busy_gpus: tuple[int, ...]
    jobs: tuple[str, ...]  # that have them
    free: int  # on the disk of nbaas's folder
    memory: int  # that can be had
    time: float
    address: str  # where ssh came in; "" where it did not come by ssh
    peer: str  # from where
    named: str  # the address that the host's own name stands for there
    home: str


def facts_here(settings: Settings) -> HostFacts:
    """Return this host's facts; takes tens of milliseconds."""
    held = list(claims(settings.home))
    connection = os.environ.get("SSH_CONNECTION", "").split()
    known = connection if len(connection) == 4 else ["", "", "", ""]  # noqa: PLR2004 - of sshd(8)
    there = settings.home
    while not there.exists():
        there = there.parent
    return HostFacts(
        hostname=socket.gethostname(),
        executable=sys.executable,
        versions=versions_here(),
        cores=usable_cores(),
        gpus=visible_gpus(),
        busy_ranks=sum(int(claim.get("ranks", 0)) for claim in held if not claim.get("gpus")),
        busy_gpus=tuple(sorted(int(gpu) for claim in held for gpu in claim.get("gpus", ()))),
        jobs=tuple(str(claim.get("name", "")) for claim in held),
        free=shutil.disk_usage(there).free,
        memory=_available_memory(),
        time=time.time(),
        address=known[2],
        peer=known[0],
        named=_own_name_address(),
        home=str(settings.home),
    )


def versions_here() -> dict[str, str]:
    """Return the versions that all hosts of a job must share; '' for what is not installed."""
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "nbaas": __version__,
        "torch": (installed("torch") or "").partition("+")[0],
        "cloudpickle": _minor("cloudpickle"),
        "horovod": (built_for() or "").partition("+")[0],
    }


def _own_name_address() -> str:
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return ""


def _minor(package: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return ".".join(importlib.metadata.version(package).split(".")[:2])
    return ""


def lacks(
    host: Host, facts: HostFacts, wanted: Mapping[str, str], *, engine: str = "", shipped: int = 0
) -> list[tuple[str, str]]:
    """Return (what is wrong, the command or line that mends it) for each thing; [] when it fits.

    `wanted` are the versions of the notebook, `shipped` the bytes that will be sent.
    """
    found = [*_versions_lacking(host, facts, wanted, engine), *_room_lacking(facts, shipped)]
    address = host.address or facts.address
    if engine == "horovod" and address and not host.interface:
        found += misnamed(host, facts, address)
    return found


def _versions_lacking(
    host: Host, facts: HostFacts, wanted: Mapping[str, str], engine: str
) -> Iterator[tuple[str, str]]:
    has = facts.versions
    target = ssh_words(host)
    python = shlex.quote(facts.executable)
    if has.get("python") != wanted.get("python"):
        yield (
            f"Python {has.get('python')}, the notebook has {wanted.get('python')}",
            f'config.toml: python = "/path/to/python{wanted.get("python")}" for its cluster',
        )
        return  # another interpreter has other packages
    for package in ("nbaas", "torch", "cloudpickle"):
        here, there = wanted.get(package, ""), has.get(package, "")
        if here and here != there:
            found = there or "none"
            pin = f"'{package}=={here}.*'" if package == "cloudpickle" else f"{package}=={here}"
            yield (
                f"{package} {found}, the notebook has {here}",
                f"ssh {target} {python} -m pip install {pin}",
            )
    if engine == "horovod" and has.get("horovod") != has.get("torch"):
        found = f"for torch {has['horovod']}" if has.get("horovod") else "missing"
        yield (
            f"Horovod {found}",
            f"ssh {target} {python} -m nbaas.cli engine build; --engine ddp works meanwhile",
        )


def misnamed(host: Host, facts: HostFacts, address: str) -> list[tuple[str, str]]:
    """Return what is wrong where a host's own name does not stand for the `address` of its ranks.

    Horovod asks for it when it makes its process sets, whatever interface it was given; where the name
    is unknown it crashes, and where it is loopback the other hosts call in vain.
    """
    if facts.named == address:
        return []
    stands = f"stands for {facts.named}" if facts.named else "is unknown"
    line = f"{address} {facts.hostname}"
    mend = f"ssh {ssh_words(host)}, then put {line!r} first in /etc/hosts; --engine ddp works now"
    return [(f"its own name {facts.hostname!r} {stands} there, Horovod needs {address}", mend)]


def _room_lacking(facts: HostFacts, shipped: int) -> Iterator[tuple[str, str]]:
    if facts.free < shipped + LEAST_FREE:
        yield (
            f"{facts.free / 2**30:.1f} GiB free in {facts.home}",
            f"{(shipped + LEAST_FREE) / 2**30:.1f} GiB are needed; NBAAS_HOME there chooses another",
        )


def clock_skew(facts: HostFacts, now: float) -> float:
    """Return by how many seconds a host's clock is ahead; 0.0 where it does not matter."""
    skew = facts.time - now
    return skew if abs(skew) > CLOCK_SKEW else 0.0


def ssh_words(host: Host) -> str:
    """Return how a person would write the host behind `ssh`."""
    name = bare_name(host)
    target = f"{host.user}@{name}" if host.user else name
    return f"-p {host.port} {target}" if host.port else target


def bare_name(host: Host) -> str:
    """Return the name or address that ssh is to connect to."""
    name = host.name.removesuffix(f":{host.port}") if host.port else host.name
    return name.removeprefix("[").removesuffix("]")


def _available_memory() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return 0


def claims(home: Path) -> Iterator[dict[str, Any]]:
    """Yield what running jobs of this user hold here: started from here, and by agents."""
    places = [(path, home / "jobs" / path.stem / "lock") for path in home.glob("seats/*.json")]
    places += [(path, path.with_name("lock")) for path in home.glob("remote/*/claim.json")]
    for path, lock in places:
        with contextlib.suppress(OSError, ValueError):
            claim = json.loads(path.read_text())
            if claim.get("seated", True) and _is_held(lock):
                yield claim


def _is_held(lock: Path) -> bool:
    """Return whether a process holds the lock of a file."""
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
