"""The jobs of a user: found by scanning their directories, newest first."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from nbaas.config import Settings
from nbaas.errors import JobError, JobNotFoundError
from nbaas.jobs.job import Job, open_job
from nbaas.jobs.names import JOB_ID

NEAR = 3  # names offered when none matches


def list_jobs(settings: Settings, limit: int = 50) -> list[Job]:
    """Return the newest jobs; one whose supervisor has died is LOST by the time of its status."""
    jobs = []
    for job in _jobs(settings):
        jobs.append(job)
        if len(jobs) == limit:
            break
    return jobs


def find_job(settings: Settings, name_or_id: str) -> Job:
    """Return the newest job of a name, or the one of an id or of the only id that starts so.

    Raises: JobNotFoundError: naming what is near.
    """
    names = []
    for job in _jobs(settings):
        if name_or_id in (job.name, job.id):
            return job
        names.append(job.name)
    near = difflib.get_close_matches(name_or_id, dict.fromkeys(names), n=NEAR, cutoff=0.4)
    listed = ", ".join(near) or ", ".join(list(dict.fromkeys(names))[:NEAR])
    raise JobNotFoundError(
        f"no job called {name_or_id!r}", hint=f"there are: {listed}" if listed else "%jobs is empty"
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
