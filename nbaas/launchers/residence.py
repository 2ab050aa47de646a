"""Where a job of another host's supervisor lives here: its folder, its place among others, its spec.

Rule: a claim counts while the lock beside it is held, so an agent that is killed gives back its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from nbaas.config import Settings
from nbaas.errors import HostError
from nbaas.launchers import zygote
from nbaas.launchers.devices import usable_cores, visible_gpus
from nbaas.launchers.environment import allowed_environment
from nbaas.launchers.facts import claims
from nbaas.records import Host, JobPaths, JobSpec, Slot

KEPT_FOR = 7 * 86400.0  # seconds that a folder stays whose supervisor was lost
# Of a host, not of a job: paths, devices, who one is.
OF_THE_HOST = """
    PATH HOME USER LOGNAME SHELL TMPDIR TEMP TMP PYTHONPATH LD_LIBRARY_PATH LD_PRELOAD VIRTUAL_ENV
    CONDA_PREFIX CONDA_DEFAULT_ENV SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE HF_HOME
    HF_HUB_CACHE HF_DATASETS_CACHE TRANSFORMERS_CACHE NLTK_DATA XDG_CACHE_HOME XDG_DATA_HOME
    XDG_CONFIG_HOME TORCH_HOME
"""
HOSTS_OWN = frozenset(OF_THE_HOST.split())
HOSTS_PREFIXES = ("CUDA_", "NVIDIA_")


class Residence:
    """The folder of one job on this host, `<home>/remote/<job>-<index>`, and its claim."""

    def __init__(self, settings: Settings, spec: JobSpec, host: Host, index: int) -> None:
        self._settings = settings
        self._folder = settings.home / "remote"
        self.root = self._folder / f"{spec.id}-{index}"
        self.paths = JobPaths(self.root)
        self.ranks = tuple(slot.rank for slot in spec.slots if slot.host == host.name)
        self.seated = False
        self.finished = False
        self._name = spec.name
        self._queue = spec.queue
        self._prune()
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(self.paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as held:
            os.close(self._lock)
            raise HostError("another agent has this job already") from held

    def ask(self, slots: Sequence[Slot]) -> tuple[tuple[Slot, ...], str]:
        """Return the slots with GPUs chosen, or why the job has to wait for its place here."""
        own = [slot for slot in slots if slot.rank in self.ranks]
        on_gpu = any(slot.gpu is not None for slot in own)
        with self._alone():
            others = [c for c in claims(self._settings.home) if bool(c.get("gpus")) == on_gpu]
            names = ", ".join(dict.fromkeys(repr(c.get("name", "")) for c in others))
            if on_gpu:
                taken = {gpu for claim in others for gpu in claim["gpus"]}
                free = [gpu for gpu in range(len(visible_gpus())) if gpu not in taken]
                if len(free) < len(own):
                    return (), f"{len(free)} of {len(visible_gpus())} GPUs are free, after {names}"
                chosen = dict(zip(self.ranks, free, strict=False))
            else:
                chosen = {}
                room = usable_cores() - sum(int(claim.get("ranks", 0)) for claim in others)
                if others and room < len(own) and self._queue:
                    return (), f"{max(room, 0)} of {usable_cores()} cores are free, after {names}"
            gpus = sorted(chosen.values())
            claim = {"name": self._name, "ranks": len(own), "gpus": gpus, "seated": True}
            (self.root / "claim.json").write_text(json.dumps(claim))
            self.seated = True
        return tuple(replace(slot, gpu=chosen.get(slot.rank, slot.gpu)) for slot in slots), ""

    def tell_where_files_land(self, spec: JobSpec) -> None:
        """Say in rank 0's log, where the person looks, on which host the cell writes its files."""
        if 0 in self.ranks:
            host = spec.slots[0].host
            self.paths.log(0).parent.mkdir(parents=True, exist_ok=True)
            line = f"nbaas: files that the cell writes land on {host} in {spec.cwd}\n"
            self.paths.log(0).write_text(line)

    def leave(self) -> None:
        """Give up the place; the folder goes too where all of it is with the supervisor."""
        if self.finished:
            shutil.rmtree(self.root, ignore_errors=True)
        os.close(self._lock)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        fd = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _prune(self) -> None:
        for folder in self._folder.glob("*-*"):
            with contextlib.suppress(OSError):
                if time.time() - folder.stat().st_mtime > KEPT_FOR:
                    shutil.rmtree(folder, ignore_errors=True)


def spec_here(settings: Settings, spec: JobSpec, host: Host, residence: Residence) -> JobSpec:
    """Return the job as ranks of this host see it: its own interpreter, folders and environment."""
    passed = {name: value for name, value in spec.env.items() if not _is_the_hosts(name)}
    own = {n: v for n, v in allowed_environment(os.environ).items() if _is_the_hosts(n)}
    return replace(
        spec,
        python=sys.executable,
        cwd=str(_workdir(spec, host)),
        env={**own, **passed},
        zygote=str(zygote.address()) if spec.zygote and settings.warm else "",
        modules=str(residence.paths.modules),
        hosts=(),
    )


def _is_the_hosts(name: str) -> bool:
    return name in HOSTS_OWN or name.startswith(HOSTS_PREFIXES)


def _workdir(spec: JobSpec, host: Host) -> Path:
    """Return the folder that the cell runs in, which is made where it is not one of the notebook's."""
    if host.workdir:
        wanted = Path(host.workdir).expanduser()
    elif spec.cwd and Path(spec.cwd).is_dir():
        return Path(spec.cwd)
    else:
        wanted = Path.home() / "nbaas" / (Path(spec.cwd).name or spec.name)
    try:
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError as refused:
        raise HostError(
            f"its working folder {wanted} cannot be made: {refused.strerror}",
            hint="--workdir, or workdir in config.toml",
        ) from refused
    return wanted
