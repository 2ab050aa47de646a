"""`%resume`: a job that was stopped, failed or lost goes on from its last checkpoint."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from nbaas.config import load_settings
from nbaas.errors import UsageError
from nbaas.jobs.job import Job
from nbaas.jobs.resume import resume
from nbaas.jobs.store import list_jobs
from nbaas.launchers.devices import this_host
from nbaas.magics.flags import LineParser, whole_number
from nbaas.magics.handle import JobHandle
from nbaas.magics.jobs import job_named
from nbaas.magics.shell import Shell
from nbaas.magics.submit import Submitted, contents_of, keep_contents
from nbaas.magics.train import in_background, in_cell, watched
from nbaas.placement import place
from nbaas.records import State
from nbaas.widgets.ending import start_of

LOOKED_AT = 50  # jobs considered where the line names none


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `%resume` was asked."""

    job: str | None = None
    ranks: int | None = None
    gpus: int | None = None
    background: bool = False


def resume_parser() -> LineParser:
    parser = LineParser(
        "%resume", "Go on with a job from its last checkpoint; the numbers are the same."
    )
    add = parser.add_argument
    add("job", nargs="?", help="a name or an id; the newest that can go on where none is given")
    add("--ranks", type=whole_number, metavar="N", help="on N ranks instead of as many as before")
    add("--gpus", type=whole_number, metavar="N", help="on N GPUs")
    add("--background", action="store_true", help="return a handle at once")
    return parser


def resume_job(shell: Shell, found: Wanted) -> JobHandle | None:
    """Go on with the job that a line names; returns a handle in the background, else None."""
    settings = load_settings()
    job = _newest() if found.job is None else job_named(found.job)
    elsewhere = found.ranks is not None or found.gpus is not None
    slots = place(this_host(), gpus=found.gpus, ranks=found.ranks) if elsewhere else ()
    going = resume(settings, job, slots)
    text = f"nbaas: {going.name} goes on from {start_of(going)}"
    print(text, file=sys.stderr)  # noqa: T201 - into the cell
    started = Submitted(going, contents_of(job.id))
    keep_contents(going.id, started.contents)
    watch = watched(shell, going)
    if found.background:
        return in_background(watch, started)
    in_cell(shell, watch, started)
    return None


def _newest() -> Job:
    for job in list_jobs(load_settings(), LOOKED_AT):
        state = job.status().state
        if state.final and state is not State.SUCCEEDED:
            return job
    raise UsageError("no job can go on", hint="%jobs lists them; %resume NAME")
