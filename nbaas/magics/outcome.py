"""How a job's end comes back into the notebook: its values, and its error if it has one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from nbaas.bundle import open_bundle, read_result
from nbaas.bundle.contents import CellContents
from nbaas.capture import merge_result
from nbaas.errors import JobError
from nbaas.jobs.job import Job, JobStatus
from nbaas.magics.failures import failure_error
from nbaas.magics.lineage import note_trained, parameters_in
from nbaas.records import State
from nbaas.widgets.failure import failures_of
from nbaas.worker.checkpoints import newest_step


class Interrupted(KeyboardInterrupt):
    """The user stopped the cell; what it had computed is back."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def bring_back(job: Job, contents: CellContents | None, namespace: dict[str, Any]) -> list[str]:
    """Merge what rank 0 left into `namespace`; returns the names that changed, [] where it left none.

    `contents` are what this kernel captured; without them the values come from the bundle.
    """
    if not job.paths.result.exists():
        return []
    blobs = job.paths.root.parent.parent / "blobs"
    result = read_result(job.paths.result, blobs)
    captured = contents or open_bundle(job.paths.bundle, blobs)
    for note in result.summary.notes:
        print(f"nbaas: {note}", file=sys.stderr)  # noqa: T201 - into the cell
    before = parameters_in(namespace)
    names = merge_result(result, namespace, captured)
    note_trained(job, names, namespace, before)
    return names


def raise_failure(job: Job, status: JobStatus, namespace: Mapping[str, Any]) -> None:
    """Raise what ended the job where it did not end well: the user's own error, or ours."""
    if status.state is State.FAILED and status.failure is not None:
        raise failure_error(failures_of(job, status), job.spec.world_size, namespace)
    hints = {
        State.FAILED: f"%logs {job.name}",
        State.CANCELLED: "it was killed: values of the cell are not back",
        State.LOST: "its supervisor died",
        State.INTERRUPTED: "the host went down",
    }
    if status.state in hints:
        reason = f": {status.reason}" if status.reason else ""
        hint = f"{hints[status.state]}; {way_on(job) or f'%logs {job.name}'}"
        raise JobError(f"{job.name} is {status.state.value}{reason}", hint=hint)


def way_on(job: Job) -> str:
    """Return how to go on with a job that has a checkpoint, '' without one."""
    step = newest_step(job.paths.checkpoints)
    return f"%resume {job.name} goes on from step {step}" if step is not None else ""


def stopped_note(job: Job, status: JobStatus, names: list[str]) -> str:
    """Return what to tell about a job that finished its step and returned early."""
    step = max((rank.progress.step for rank in status.ranks), default=0)
    back = f"; back in the notebook: {', '.join(sorted(names))}" if names else ""
    on = f"; {way}" if (way := way_on(job)) else ""
    return f"{job.name}: stopped after step {step}{back}{on}"
