"""Jobs in a terminal: gone on with, watched to their end, told by an exit code, removed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from nbaas.config import Settings
from nbaas.jobs.blame import EXIT_STOPPED
from nbaas.jobs.job import Job, JobStatus
from nbaas.jobs.resume import resume
from nbaas.jobs.retention import prune
from nbaas.jobs.store import find_job
from nbaas.records import Slot
from nbaas.widgets.failure import failure_lines, failures_of
from nbaas.widgets.terminal import uncoloured
from nbaas.widgets.watch import watch_in_terminal


def watched_to_its_end(job: Job) -> int:
    """Show a job in the terminal; returns what tells its end, see `exit_code`."""
    # Told to end, it asks the ranks to finish their step, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status = watch_in_terminal(job)
    if failures := failures_of(job, status):
        text = "\n".join(failure_lines(failures, job.spec.world_size))
        sys.stderr.write((text if sys.stderr.isatty() else uncoloured(text)) + "\n")
    elif status.reason and status.state.value != "SUCCEEDED":
        sys.stderr.write(f"nbaas: {job.name}: {status.reason}\n")
    return exit_code(status)


def exit_code(status: JobStatus) -> int:
    """Return 0 for success, 75 for stopped early, 128 and the signal where one ended it, else 1."""
    match status.state.value:
        case "SUCCEEDED":
            return 0
        case "STOPPED":
            return EXIT_STOPPED
        case "CANCELLED":
            return 128 + signal.SIGKILL
        case "FAILED" if status.failure is not None:
            code = status.ranks[status.failure.rank].exit_code or 1
            return 128 - code if code < 0 else code
    return 1


def resumed(settings: Settings, name: str, slots: Sequence[Slot], *, wait: bool) -> int:
    """Go on with a job from its last checkpoint; returns what tells its end, 0 without `wait`."""
    job = resume(settings, find_job(settings, name), slots)
    sys.stderr.write(f"nbaas: {job.name} goes on from {start_of(job)}\n")
    return watched_to_its_end(job) if wait else 0


def start_of(job: Job) -> str:
    """Return where a resumed job begins, for people."""
    saved = job.checkpoints()
    return f"the checkpoint of step {saved[0].step}" if saved else "its start: it has no checkpoint"


def pruned(settings: Settings, keep: int, older_than: float, *, dry_run: bool) -> str:
    """Remove old jobs and what crashes left; returns what to tell."""
    gone = prune(settings, keep=max(0, keep), older_than=older_than, dry_run=dry_run)
    done = "would go" if dry_run else "removed"
    left = f" and {len(gone.leftovers)} leftovers" if gone.leftovers else ""
    listed = "".join(f"\n{job_id}" for job_id in gone.jobs)
    return f"{len(gone.jobs)} jobs{left} {done}, {gone.freed / 2**20:.1f} MiB{listed}"
