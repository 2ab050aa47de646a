"""What this machine and the configured hosts have, and who uses them, as the panel shows it."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psutil

from nbaas.config import Settings, load_settings
from nbaas.doctor import examine
from nbaas.errors import NbaasError, UsageError
from nbaas.launchers.devices import this_host
from nbaas.launchers.survey import Surveyed, free_text, survey, verdicts
from nbaas.placement import configured_hosts
from nbaas.records import Host

SURVEY_EVERY = 60.0  # seconds
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
class Holder:
    """One rank that runs: where, on which GPU, of which job."""

    host: str
    gpu: int | None
    job: str


@dataclass(frozen=True, slots=True)
class HostJob:
    """A job that uses a host, and with how many ranks."""

    name: str
    ranks: int


@dataclass(frozen=True, slots=True)
class OtherHost:
    """A host of config.toml; `slots` is how many ranks it takes, None as many as it has GPUs."""

    name: str
    slots: int | None
    jobs: tuple[HostJob, ...]
    state: str = ""  # 'ready', or what it lacks; '' before it has answered
    hint: str = ""  # what mends it
    free: str = ""  # such as '3 of 4 GPUs'
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FactRow:
    """One line of `nbaas doctor`: the hint is the way out where `ok` is false."""

    name: str
    ok: bool
    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class HostRow:
    """A host in a list; memory in bytes, `load` the mean of the last minute.

    `free` is how many more ranks fit: GPUs that no job holds, or cores without GPUs.
    """

    name: str
    cores: int
    load: float
    memory_used: int
    memory_total: int
    ranks: int  # that run here
    free: int
    jobs: tuple[HostJob, ...]
    gpus: tuple[Gpu, ...]


def read_host(holders: Sequence[Holder]) -> HostRow:
    """Return this host's row; `holders` are the ranks that run here."""
    here = this_host()
    memory = psutil.virtual_memory()
    gpus = held(read_gpus(), holders)
    free = sum(not gpu.jobs for gpu in gpus) if gpus else max(0, here.cores - len(holders))
    return HostRow(
        name=here.name,
        cores=here.cores,
        load=os.getloadavg()[0],
        memory_used=memory.total - memory.available,
        memory_total=memory.total,
        ranks=len(holders),
        free=free,
        jobs=jobs_of(holders),
        gpus=tuple(gpus),
    )


def read_hosts(holders: Sequence[Holder]) -> tuple[HostRow, list[OtherHost]]:
    """Return this host, and those of config.toml as it is now; `holders` are all ranks that run."""
    try:
        entries = configured_hosts(load_settings().clusters)
    except (UsageError, ValueError):  # the magics tell what is wrong with the file
        entries = ()
    elsewhere = {entry.host.name for entry in entries}
    here = read_host([holder for holder in holders if holder.host not in elsewhere])
    others = [
        OtherHost(
            entry.host.name,
            entry.slots,
            jobs_of([holder for holder in holders if holder.host == entry.host.name]),
            **SURVEYS.latest(entry.host.name),
        )
        for entry in entries
    ]
    SURVEYS.renew([entry.host for entry in entries])
    return here, others


class Surveys:
    """What other hosts said last; they are asked in a thread of its own, which nobody waits for."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, Any]] = {}
        self._asked = -SURVEY_EVERY
        self._busy = threading.Lock()

    def latest(self, name: str) -> dict[str, Any]:
        """Return state, hint, free and gpus of a host, {} before it has answered."""
        return self._rows.get(name, {})

    def renew(self, hosts: Sequence[Host]) -> None:
        """Ask anew where the answers are old and nobody is asking."""
        old = time.monotonic() - self._asked > SURVEY_EVERY
        if hosts and old and self._busy.acquire(blocking=False):
            self._asked = time.monotonic()
            threading.Thread(target=self._ask, args=(hosts,), name="survey", daemon=True).start()

    def _ask(self, hosts: Sequence[Host]) -> None:
        try:
            settings = load_settings()
            for answer in survey(hosts, settings):
                self._rows[answer.host.name] = _said(answer, settings.engine)
        except (NbaasError, OSError, ValueError):
            return  # the file has changed meanwhile: the next look finds what it is now
        finally:
            self._busy.release()


SURVEYS = Surveys()


def _said(answer: Surveyed, engine: str) -> dict[str, Any]:
    [first, *_] = verdicts([answer], engine)
    row: dict[str, Any] = {"state": "ready" if first.ok else first.text, "hint": first.hint}
    if answer.facts is not None:
        row |= {"free": free_text(answer.facts), "gpus": answer.facts.gpus}
    return row


def jobs_of(holders: Iterable[Holder]) -> tuple[HostJob, ...]:
    """Return the jobs of these ranks by name, with how many each has."""
    counted = Counter(holder.job for holder in holders)
    return tuple(HostJob(name, ranks) for name, ranks in sorted(counted.items()))


def check_here(settings: Settings) -> list[FactRow]:
    """Return what this host has and lacks for training, what is needed first; then the others."""
    here = [
        FactRow(fact.name, fact.ok, fact.text, "" if fact.ok else fact.hint)
        for fact in examine(settings)
        if not fact.optional
    ]
    try:
        hosts = [entry.host for entry in configured_hosts(load_settings().clusters)]
    except (UsageError, ValueError) as wrong:
        return [*here, FactRow("config.toml", ok=False, text=str(wrong), hint="mend the file")]
    found = verdicts(survey(hosts, settings), settings.engine)
    return here + [FactRow(v.host, v.ok, v.text, v.hint) for v in found]


def held(gpus: Sequence[Gpu], holders: Iterable[Holder]) -> list[Gpu]:
    """Return the GPUs with the names of the jobs that hold each."""
    names: dict[int, set[str]] = {}
    for holder in holders:
        if holder.gpu is not None:
            names.setdefault(holder.gpu, set()).add(holder.job)
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
