"""What a finished job leaves in a notebook, drawn anew from its files for a page that missed its end.

Rule: drawn in a process of its own; matplotlib stays out of the server, which relays every message.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import msgspec

from nbaas.errors import JobError
from nbaas.jobs.job import Job

LONGEST = 60.0  # seconds that drawing may take
COMMAND = (sys.executable, "-P", "-m", "nbaas.widgets.outputs")


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
        drawn = subprocess.run(
            (*COMMAND, str(job.paths.root)), capture_output=True, timeout=LONGEST, check=True
        )
        return msgspec.json.decode(drawn.stdout, type=OutputParts)
    except (subprocess.SubprocessError, msgspec.MsgspecError) as damage:
        raise JobError(f"the outputs of job {job.id} cannot be drawn") from damage
