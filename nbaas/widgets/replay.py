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
from nbaas.journal import JournalReader
from nbaas.placement import describe
from nbaas.widgets.run import RunView, fact_lines
from nbaas.worker.kept import KeptCurves
from nbaas.worker.metrics import metric_of

LONG = 512 << 10  # bytes; a shorter journal is read in full
RECENT = 256 << 10  # bytes of a long one, for what is told of the ranks and of the rate


def replayed(job: Job) -> RunView:
    """Return a job as it stands."""
    run = RunView(job.spec, describe(job.spec.slots))
    status = job.status()
    run.take_status(status)
    start = recall(run, job)
    run.take(
        {slot.rank: rows_of(job, slot.rank, start.get(slot.rank, 0)) for slot in job.spec.slots}
    )
    run.take_pictures(PictureReader(job.paths).read())
    run.facts = fact_lines(read_facts(job))
    run.cost = cost_of(job, status, prices_of(load_settings()), time.time()).line()
    return run


def recall(run: RunView, job: Job) -> dict[int, int]:
    """Take in what long journals hold, from the curves beside them and from their last rows.

    Returns by rank the byte at which reading goes on; a short journal has none and is read in full.
    """
    start = {}
    for slot in job.spec.slots:
        journal = job.paths.metrics(slot.rank)
        if not journal.exists() or journal.stat().st_size < LONG:
            continue
        kept = KeptCurves(journal)
        curves = kept.read()
        start[slot.rank] = end = kept.offset
        first = end - RECENT
        records = JournalReader(journal, first).read(RECENT)
        run.take({slot.rank: [row for row in map(metric_of, records) if row is not None]})
        if slot.rank == 0:
            run.take_curves(curves)
    return start


def read_facts(job: Job) -> dict[str, Any]:
    """Return what rank 0 wrote about its run; {} before the end."""
    try:
        facts: dict[str, Any] = json.loads(job.paths.facts.read_text())
    except (OSError, ValueError):
        return {}
    return facts
