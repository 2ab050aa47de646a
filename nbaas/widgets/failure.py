"""A job's failure as lines of text: which rank, the stack of the user's code, the others folded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nbaas.jobs.blame import log_tail, read_failures
from nbaas.jobs.job import Job, JobStatus
from nbaas.jobs.stacks import DUMP_LINES, cell_labels, tidied
from nbaas.records import RankFailure

WITHOUT_WORDS = frozenset({"Killed", "Exited"})  # a rank that could not say why
LAST_LINES = 20
RED, BOLD, PLAIN = "\x1b[31m", "\x1b[1m", "\x1b[0m"


def failures_of(job: Job, status: JobStatus) -> list[RankFailure]:
    """Return the failures of all ranks, the one that is blamed first; [] where none is."""
    if status.failure is None:
        return []
    others = [rank for rank in range(job.spec.world_size) if rank != status.failure.rank]
    first = status.failure
    if first.kind in WITHOUT_WORDS:
        words = tidied(log_tail(job.paths, first.rank, DUMP_LINES), cell_labels(job))
        first = replace(first, traceback=words)
    return [first, *read_failures(job.paths, others).values()]


def failure_lines(failures: Sequence[RankFailure], world_size: int) -> list[str]:
    """Return what a cell or a terminal shows; the cause is the first that is not secondary."""
    first = cause(failures)
    where = f"rank {first.rank} of {world_size}" if world_size > 1 else "rank 0"
    same = [f.rank for f in failures if f is not first and f.kind == first.kind and not f.secondary]
    also = f"; the same on {ranks_text(same)}" if same else ""
    if first.kind in WITHOUT_WORDS:
        lines = [f"{BOLD}{where}{PLAIN} {RED}{first.message}{PLAIN}{also}"]
        lines += ["its last lines:", *first.traceback.rstrip().splitlines()[-LAST_LINES:]]
    else:
        lines = [f"{BOLD}{where}{PLAIN} raised {RED}{first.kind}{PLAIN}{also}"]
        lines += first.traceback.rstrip().splitlines()
    others = sorted(set(range(world_size)) - {first.rank, *same})
    if others:
        lines.append(f"{ranks_text(others)} ended because of it")
    return lines


def cause(failures: Sequence[RankFailure]) -> RankFailure:
    return next((failure for failure in failures if not failure.secondary), failures[0])


def ranks_text(ranks: Sequence[int]) -> str:
    """Return 'rank 1', 'ranks 1-3' or 'ranks 0, 2-3'."""
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    text = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
    return f"rank{'s' if len(ranks) > 1 else ''} {text}"
