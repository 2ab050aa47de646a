"""`%jobs %logs %stop %attach %hosts`: the jobs of this user, whoever started them."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from nbaas.config import load_settings
from nbaas.errors import UsageError
from nbaas.jobs.cost import cost_of, prices_of, total
from nbaas.jobs.job import Job
from nbaas.jobs.store import find_job, list_jobs
from nbaas.launchers.facts import facts_here
from nbaas.launchers.survey import free_text
from nbaas.magics.flags import LineParser, whole_number
from nbaas.magics.handle import JobHandle
from nbaas.magics.placing import HEADER, other_rows
from nbaas.magics.shell import Shell
from nbaas.magics.tables import Table, ago
from nbaas.magics.train import watched
from nbaas.placement import describe
from nbaas.widgets.run import clock


def jobs_parser() -> LineParser:
    parser = LineParser("%jobs", "List the newest jobs, running or over.")
    parser.add_argument("--limit", type=whole_number, default=20, metavar="N")
    parser.add_argument("--compare", nargs="+", metavar="JOB", help="jobs side by side, by name")
    parser.add_argument("--cost", action="store_true", help="what each has used")
    return parser


def logs_parser() -> LineParser:
    parser = LineParser("%logs", "Print what a rank of a job has printed.")
    parser.add_argument(
        "job", nargs="?", help="a name or an id; the newest job where none is given"
    )
    parser.add_argument("--rank", type=whole_number, default=0)
    parser.add_argument(
        "--tail", type=whole_number, default=0, metavar="N", help="the last N lines"
    )
    return parser


def stop_parser() -> LineParser:
    parser = LineParser("%stop", "Ask a job to finish its step and return its values.")
    parser.add_argument("job", nargs="?", help="a name or an id")
    parser.add_argument("--kill", action="store_true", help="end the ranks now; values are lost")
    return parser


def attach_parser() -> LineParser:
    parser = LineParser("%attach", "Open the panel of a job again; returns its handle.")
    parser.add_argument(
        "job", nargs="?", help="a name or an id; the newest job where none is given"
    )
    return parser


def hosts_parser() -> LineParser:
    parser = LineParser("%hosts", "List the cores and GPUs that ranks may use, here and elsewhere.")
    parser.add_argument(
        "action", nargs="?", choices=["check"], help="say what each host of config.toml lacks"
    )
    return parser


def compared(names: list[str]) -> Any:
    """Return jobs side by side."""
    from nbaas.widgets.compare import Comparison

    return Comparison([job_named(name) for name in names])


def job_table(limit: int) -> Table:
    """Return the newest jobs with state, place, steps and times."""
    rows = tuple(_job_row(job) for job in list_jobs(load_settings(), max(limit, 1)))
    header = ("name", "state", "where", "engine", "step", "took", "started", "id")
    return Table(header, rows, empty="no jobs yet: %%train starts one")


def cost_table(limit: int) -> Table:
    """Return what the newest jobs have used, and all of them together."""
    settings, now = load_settings(), time.time()
    prices = prices_of(settings)
    jobs = list_jobs(settings, max(limit, 1))
    costs = [(job, cost_of(job, job.status(), prices, now)) for job in jobs]
    rows = [(job.name, job.status().state.value, *cost.words()) for job, cost in costs]
    rows.append(("all of these", "", *total([cost for _, cost in costs]).words()))
    header = ("name", "state", "GPU-hours", "core-hours", "energy", "money")
    shown = header if any(row[-1] for row in rows) else header[:-1]
    cut = tuple(row[: len(shown)] for row in rows)
    return Table(shown, cut if jobs else (), empty="no jobs yet: %%train starts one")


def _job_row(job: Job) -> tuple[str, ...]:
    status, spec = job.status(), job.spec
    end = status.since if status.state.final else time.time()
    step = max((rank.progress.step for rank in status.ranks), default=0)
    flags = "".join(f" ({flag.lower()})" for flag in sorted(status.flags))
    return (
        spec.name,
        status.state.value + flags,
        describe(spec.slots),
        spec.engine,
        str(step),
        clock(end - spec.created),
        ago(time.time() - spec.created),
        spec.id,
    )


def job_named(name: str | None) -> Job:
    """Return the job of a name or id, the newest one where there is no name."""
    settings = load_settings()
    if name:
        return find_job(settings, name)
    newest = list_jobs(settings, 1)
    if not newest:
        raise UsageError("there is no job yet", hint="%%train starts one")
    return newest[0]


def print_logs(name: str | None, rank: int, tail: int) -> None:
    """Print the log of a rank into the cell."""
    text = JobHandle(job_named(name)).logs(rank)
    if tail > 0:
        text = "\n".join(text.splitlines()[-tail:]) + "\n"
    sys.stdout.write(text)


def stop_job(name: str | None, *, kill: bool) -> str:
    """Ask a job to stop; returns what to tell."""
    if not name:
        running = [job.name for job in list_jobs(load_settings()) if not job.status().state.final]
        hint = f"running: {', '.join(running)}" if running else "no job is running"
        raise UsageError("%stop needs the name of a job", hint=hint)
    job = job_named(name)
    state = job.status().state
    if state.final:
        return f"{job.name} is {state.value} already"
    if kill:
        job.kill()
        return f"{job.name}: killed"
    job.stop()
    return f"{job.name}: asked to finish its step; %stop {job.name} --kill ends it at once"


def attach(shell: Shell, name: str | None) -> JobHandle:
    """Return the handle of a job whose panel, with everything replayed, opens in the cell."""
    job = job_named(name)
    watch = watched(shell, job)
    watch.run.tail = True
    watch.show.open(watch.run)
    thread = threading.Thread(target=watch.in_background, name="watch", daemon=True)
    thread.start()
    return JobHandle(job, None, thread)


def host_table() -> Table:
    """Return this host and those of config.toml: cores, GPUs, what is free, who runs there."""
    settings = load_settings()
    here = facts_here(settings)
    row = (here.hostname, str(here.cores), ", ".join(here.gpus) or "none", free_text(here),
           ", ".join(here.jobs), "this machine")  # fmt: skip
    return Table(HEADER, (row, *other_rows(settings)))
