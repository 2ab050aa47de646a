"""Which cores and GPUs of this host the jobs of a user hold, and whether one more fits.

Rules: a claim is a file beside the others, and counts only while its job's lock is held: a supervisor
that is killed gives back what it had.  Jobs that wait are served in the order they came, past those
whose supervisor is frozen; a job that would never fit runs alone, as it was asked for.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nbaas.config import own_folder
from nbaas.jobs.watch import heartbeat_age
from nbaas.launchers.devices import usable_cores, visible_gpus
from nbaas.launchers.locks import take_lock
from nbaas.records import JobPaths, JobSpec, Slot

FROZEN_AFTER = 10.0  # seconds without a heartbeat


@dataclass(frozen=True, slots=True)
class Claim:
    """What one job holds, or waits for: ranks on the CPU, or GPUs by index."""

    job: str
    name: str
    seated: bool
    ranks: int
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Seating:
    """The slots a job got, GPUs chosen; or why it has to wait."""

    slots: tuple[Slot, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    cores: int
    gpus: int


def seat(spec: JobSpec, others: Sequence[Claim], host: Capacity) -> Seating:
    """Return the slots of `spec` on a host where `others` hold or wait for theirs.  Pure.

    Source of the order: ids sort by the time a job was created.
    """
    earlier = [claim for claim in others if not claim.seated and claim.job < spec.id]
    seated = [claim for claim in others if claim.seated]
    on_gpu = any(slot.gpu is not None for slot in spec.slots)
    rivals = [claim for claim in (*seated, *earlier) if bool(claim.gpus) == on_gpu]
    if not rivals:
        return Seating(slots=spec.slots)
    names = ", ".join(dict.fromkeys(repr(claim.name) for claim in rivals))
    # The kernel that started it may be gone: from here it is stopped by its name.
    after = f"after {names}; %stop {rivals[0].name} makes room"
    wanted = spec.world_size
    if on_gpu:
        taken = {gpu for claim in seated for gpu in claim.gpus}
        free = [gpu for gpu in range(host.gpus) if gpu not in taken]
        if len(free) < wanted or any(claim.gpus for claim in earlier):
            return Seating(reason=f"{len(free)} of {host.gpus} GPUs are free, {after}")
        chosen = zip(spec.slots, free, strict=False)
        return Seating(slots=tuple(replace(slot, gpu=gpu) for slot, gpu in chosen))
    room = host.cores - sum(claim.ranks for claim in seated if not claim.gpus)
    if room < wanted or any(not claim.gpus for claim in earlier):
        return Seating(reason=f"{max(room, 0)} of {host.cores} cores are free, {after}")
    return Seating(slots=spec.slots)


class Seats:
    """The claims of one home on this host, as files; `spec` is the job that asks."""

    def __init__(self, home: Path, spec: JobSpec) -> None:
        self._folder = home / "seats"
        self._jobs = home / "jobs"
        self._spec = spec
        gpus = max((slot.gpu + 1 for slot in spec.slots if slot.gpu is not None), default=0)
        self._host = Capacity(usable_cores(), max(gpus, len(visible_gpus()) if gpus else 0))

    def ask(self) -> Seating:
        """Return slots, which are then this job's until its supervisor ends; or why to wait."""
        with self._locked():
            seating = seat(self._spec, list(self._others()), self._host)
            slots = seating.slots or self._spec.slots
            gpus = tuple(slot.gpu for slot in slots if slot.gpu is not None)
            self._write(
                Claim(self._spec.id, self._spec.name, bool(seating.slots), len(slots), gpus)
            )
        return seating

    def leave(self) -> None:
        self._path(self._spec.id).unlink(missing_ok=True)

    def _others(self) -> Iterator[Claim]:
        """Yield the claims of jobs that somebody answers for; those of dead jobs are removed."""
        for path in sorted(self._folder.glob("*.json")):
            if path.stem == self._spec.id:
                continue
            lock = take_lock(JobPaths(self._jobs / path.stem).lock) if self._exists(path) else None
            if lock is not None or not self._exists(path):
                path.unlink(missing_ok=True)
                if lock is not None:
                    os.close(lock)
                continue
            with contextlib.suppress(OSError, ValueError, TypeError):
                data = json.loads(path.read_text())
                claim = Claim(**{**data, "gpus": tuple(data["gpus"])})
                if claim.seated or not self._is_frozen(claim.job):
                    yield claim

    def _is_frozen(self, job_id: str) -> bool:
        """Return whether the supervisor of a job that waits shows no life: others go before it."""
        age = heartbeat_age(JobPaths(self._jobs / job_id).heartbeat)
        return age is not None and age > FROZEN_AFTER

    def _exists(self, path: Path) -> bool:
        return (self._jobs / path.stem).is_dir()

    def _write(self, claim: Claim) -> None:
        fields = {name: getattr(claim, name) for name in Claim.__slots__}
        temporary = self._folder / f".{claim.job}.tmp"
        temporary.write_text(json.dumps(fields))
        temporary.rename(self._path(claim.job))

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.json"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        own_folder(self._folder)
        fd = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)
