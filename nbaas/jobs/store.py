"""The jobs of a user: found by scanning their directories, newest first."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator

from nbaas.config import Settings
from nbaas.errors import JobError, JobNotFoundError
from nbaas.jobs.job import Job, open_job
from nbaas.jobs.locks import name_lock, read_owner
from nbaas.jobs.names import JOB_ID, NAME

NEAR = 3  # names offered when none matches
LOOKED_AT = 200  # jobs whose names are considered then


def list_jobs(settings: Settings, limit: int = 50) -> list[Job]:
    """Return the newest jobs; one whose supervisor has died is LOST by the time of its status."""
    jobs = []
    for job in _jobs(settings):
        jobs.append(job)
        if len(jobs) == limit:
            break
    return jobs


def find_job(settings: Settings, name_or_id: str) -> Job:
    """Return the newest job of a name, or the one of an id.

    Raises: JobNotFoundError: naming what is near.
    """
    if JOB_ID.fullmatch(name_or_id):
        job_id = name_or_id
    elif NAME.fullmatch(name_or_id):
        # The lock of a name says which job had it last: no walk over all jobs.
        job_id = read_owner(name_lock(settings, name_or_id))
    else:
        job_id = ""
    with contextlib.suppress(JobError):
        if JOB_ID.fullmatch(job_id):
            return open_job(settings.jobs / job_id)
    names = list(dict.fromkeys(job.name for job in list_jobs(settings, LOOKED_AT)))
    near = difflib.get_close_matches(name_or_id, names, n=NEAR, cutoff=0.4) or names[:NEAR]
    raise JobNotFoundError(
        f"no job called {name_or_id!r}",
        hint="there are: " + ", ".join(near) if near else "%jobs is empty",
    )


def _jobs(settings: Settings) -> Iterator[Job]:
    """Yield jobs, newest first: ids sort by time.  A directory that holds no job is passed over."""
    try:
        ids = sorted(p.name for p in settings.jobs.iterdir() if JOB_ID.fullmatch(p.name))
    except FileNotFoundError:
        return
    for job_id in reversed(ids):
        try:
            yield open_job(settings.jobs / job_id)
        except JobError:
            continue
