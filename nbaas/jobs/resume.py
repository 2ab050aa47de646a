"""A job that is over goes on as a new one: same cell, same values, from the last whole checkpoint.

The new job begins with the old one's curves, and with the log up to the checkpoint, so both join.
Files are linked, not copied, where they never change: bundle and checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nbaas.config import Settings
from nbaas.errors import JobError
from nbaas.jobs.job import Job
from nbaas.jobs.names import new_id
from nbaas.jobs.submit import submit
from nbaas.launchers import zygote
from nbaas.records import JobPaths, Slot, State
from nbaas.worker.checkpoints import Checkpoint, newest_whole

COPY = 1 << 20  # bytes


def resume(settings: Settings, job: Job, slots: Sequence[Slot] = ()) -> Job:
    """Return the new job that goes on where `job` was at its last whole checkpoint.

    A job without one begins anew.  With `slots` it goes on on other ranks: the numbers stay.
    Raises: JobError: it runs, or has done all it was to do.  JobRunningError: another of its name runs.
    """
    state = job.status().state
    if not state.final:
        raise JobError(f"{job.name!r} is {state.value}", hint=f"%attach {job.name} shows it")
    if state is State.SUCCEEDED:
        raise JobError(f"{job.name!r} has come to its end", hint="run the cell again")
    if job.spec.hosts and not slots:
        raise JobError(
            f"{job.name!r} ran on several hosts, and its checkpoint lies on one",
            hint=f"%resume {job.name} --ranks 2 goes on here",
        )
    point = newest_whole(job.paths.checkpoints)
    now = time.time()
    spec = replace(
        job.spec,
        id=new_id(now),
        created=now,
        resumed_from=job.id,
        slots=tuple(slots) or job.spec.slots,
        hosts=(),
        zygote=str(zygote.address()) if settings.warm and job.spec.zygote else "",
    )

    def write_bundle(bundle: Path) -> None:
        _link_tree(job.paths.bundle, bundle)
        if point is not None:
            _carry_over(job.paths, JobPaths(bundle.parent), point, spec.world_size)

    return submit(settings, spec, write_bundle)


def _carry_over(old: JobPaths, new: JobPaths, point: Checkpoint, ranks: int) -> None:
    _link_tree(point.root, new.checkpoints / point.root.name)
    for rank in range(ranks):
        for source, copy in (
            (old.metrics(rank), new.metrics(rank)),
            (old.curves(rank), new.curves(rank)),
        ):
            if source.exists():
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(source, copy)
    _copy_start(old.log(0), new.log(0), point.log)
    with contextlib.suppress(FileNotFoundError):
        lines = old.displays.read_bytes().splitlines(keepends=True)[: point.shown]
        new.displays.write_bytes(b"".join(lines))
        shutil.copytree(old.displays.with_suffix(""), new.displays.with_suffix(""))


def _link_tree(source: Path, target: Path) -> None:
    """Make `target` a tree of the very files of `source`; of copies where links cannot be."""
    for path in (source, *sorted(source.rglob("*"))):
        made = target / path.relative_to(source)
        if path.is_dir():
            made.mkdir(parents=True, mode=0o700, exist_ok=True)
            continue
        try:
            os.link(path, made)
        except OSError:
            shutil.copy2(path, made)


def _copy_start(source: Path, target: Path, size: int) -> None:
    with contextlib.suppress(FileNotFoundError), source.open("rb") as old:
        target.parent.mkdir(exist_ok=True)
        with target.open("wb") as new:
            while size > 0 and (data := old.read(min(size, COPY))):
                new.write(data)
                size -= len(data)
