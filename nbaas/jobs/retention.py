"""What is kept of jobs that are over, and what a crash can leave; nothing that runs is touched.

Rules: a job directory disappears by a rename first, so that one half removed is never taken for a job.
A job counts as over by its state alone, read under its lock.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbaas.bundle import prune_blobs, read_manifest
from nbaas.config import Settings
from nbaas.errors import BundleError, JobError
from nbaas.jobs.job import Job, open_job
from nbaas.jobs.names import JOB_ID
from nbaas.launchers.locks import is_held
from nbaas.records import JobPaths

DRAFT_AGE = 3600.0  # seconds after which an unfinished directory has no one working on it
BLOB_AGE = 3600.0  # seconds: a kernel may just be about to refer to it


@dataclass(frozen=True, slots=True)
class Finished:
    """A job that is over, as the policy sees it."""

    id: str
    ended: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, or would be."""

    jobs: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()  # directories without a job
    freed: int = 0  # bytes


def expired(
    finished: Sequence[Finished], *, keep: int, older_than: float, now: float
) -> tuple[str, ...]:
    """Return the ids that go: older than `older_than` seconds, and not among the newest `keep`."""
    newest = sorted(finished, key=lambda job: job.id, reverse=True)
    return tuple(job.id for job in newest[keep:] if now - job.ended > older_than)


def prune(
    settings: Settings, *, keep: int = 100, older_than: float = 7 * 86400.0, dry_run: bool = False
) -> Pruned:
    """Remove old jobs, what crashes left, and blobs that no job refers to; returns what went.

    With `dry_run` nothing is removed, and `freed` counts job directories only.
    """
    now = time.time()
    jobs = list(_jobs(settings))
    over = [Finished(job.id, status.since) for job in jobs if (status := job.status()).state.final]
    going = expired(over, keep=keep, older_than=older_than, now=now)
    leftovers = tuple(str(path) for path in abandoned(settings.jobs, now))
    doomed = [settings.jobs / job_id for job_id in going] + [Path(path) for path in leftovers]
    freed = sum(_size(path) for path in doomed)
    if not dry_run:
        for path in doomed:
            _remove(path)
        used = {blob for job in jobs if job.id not in going for blob in _blobs_of(job)}
        freed += prune_blobs(settings.blobs, used, BLOB_AGE)
    return Pruned(going, leftovers, freed)


def _jobs(settings: Settings) -> Iterator[Job]:
    for path in settings.jobs.glob("*"):
        if JOB_ID.fullmatch(path.name):
            with contextlib.suppress(JobError):
                yield open_job(path)


def abandoned(jobs: Path, now: float) -> Iterator[Path]:
    """Yield drafts of launchers that died, and directories whose removal was cut short."""
    for path in jobs.glob(".*"):
        old = path.name.endswith(".draft") and now - path.stat().st_mtime > DRAFT_AGE
        if path.name.endswith(".gone") or (old and not is_held(JobPaths(path).lock)):
            yield path


def _blobs_of(job: Job) -> Iterator[str]:
    with contextlib.suppress(BundleError):
        yield from read_manifest(job.paths.bundle).blobs


def _remove(path: Path) -> None:
    if not path.name.startswith("."):
        gone = path.with_name(f".{path.name}.gone")
        path.rename(gone)
        path = gone
    shutil.rmtree(path, ignore_errors=True)


def _size(root: Path) -> int:
    """Return the bytes that a directory takes on the disk."""
    total = 0
    for path in root.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_blocks * 512
    return total
