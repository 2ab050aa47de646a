"""A run as it stands, from the files of its job: nobody needs to have watched it."""

from __future__ import annotations

import json
import time
from typing import Any

from nbaas.config import load_settings
from nbaas.jobs.cost import cost_of, prices_of
from nbaas.jobs.job import Job
from nbaas.jobs.pictures import PictureReader
from nbaas.jobs.series import rows_of
from nbaas.placement import describe
from nbaas.widgets.run import RunView, fact_lines


def replayed(job: Job) -> RunView:
    """Return a job as it stands."""
    run = RunView(job.spec, describe(job.spec.slots))
    status = job.status()
    run.take_status(status)
    run.take({slot.rank: rows_of(job, slot.rank) for slot in job.spec.slots})
    run.take_pictures(PictureReader(job.paths).read())
    run.facts = fact_lines(read_facts(job))
    run.cost = cost_of(job, status, prices_of(load_settings()), time.time()).line()
    return run


def read_facts(job: Job) -> dict[str, Any]:
    """Return what rank 0 wrote about its run; {} before the end."""
    try:
        facts: dict[str, Any] = json.loads(job.paths.facts.read_text())
    except (OSError, ValueError):
        return {}
    return facts
