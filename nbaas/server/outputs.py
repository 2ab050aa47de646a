"""What a finished job leaves in a notebook, drawn anew from its files for a page that missed its end.

Rule: drawn in a process of its own; matplotlib stays out of the server, which relays every message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from nbaas.errors import JobError
from nbaas.jobs.job import Job
from nbaas.widgets.drawing import outputs_json


@dataclass(frozen=True, slots=True)
class OutputPart:
    """Data by MIME type and metadata, as a notebook file holds them."""

    data: dict[str, Any]
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class OutputParts:
    figure: OutputPart
    summary: OutputPart


def read_outputs(job: Job) -> OutputParts:
    """Return the figure and the summary of a job.

    Raises: JobError: it has not ended, or its files are damaged.
    """
    if not job.status().state.final:
        raise JobError(f"job {job.id} has not ended yet", hint="its panel shows it while it runs")
    try:
        return msgspec.json.decode(outputs_json(job.paths.root), type=OutputParts)
    except msgspec.MsgspecError as damage:
        raise JobError(f"the outputs of job {job.id} cannot be drawn") from damage
