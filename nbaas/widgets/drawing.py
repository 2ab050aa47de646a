"""The outputs of a job drawn in a process of their own: matplotlib is not imported where others wait.

Imports of that size hold the interpreter for 0.2 s: a server's every message, a kernel's running cell.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from nbaas.errors import JobError

LONGEST = 60.0  # seconds that drawing may take
COMMAND = (sys.executable, "-P", "-m", "nbaas.widgets.outputs")


def outputs_json(root: Path) -> bytes:
    """Return what `nbaas.widgets.outputs` prints for the job in `root`.

    Raises: JobError: its files are damaged, or the process was ended.
    """
    try:
        done = subprocess.run(
            (*COMMAND, str(root)), capture_output=True, timeout=LONGEST, check=True
        )
    except (subprocess.SubprocessError, OSError) as failed:
        raise JobError(f"the outputs of job {root.name} cannot be drawn") from failed
    return done.stdout
