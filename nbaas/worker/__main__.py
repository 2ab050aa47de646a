"""`python -m nbaas.worker ROOT RANK`: one rank, started by the supervisor of the job in ROOT."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nbaas.worker.guard import die_with_parent, hold_lifeline


def main(argv: list[str]) -> None:
    """Tie this process to its supervisor, then run the rank; does not return."""
    if parent := os.environ.pop("NBAAS_PARENT", ""):
        die_with_parent(int(parent))
    if lifeline := os.environ.pop("NBAAS_LIFELINE", ""):
        hold_lifeline(int(lifeline))
    report = os.environ.pop("NBAAS_REPORT", "")
    # Only now: these imports take longer than a supervisor may need to die.
    from nbaas.records import JobPaths
    from nbaas.worker.rank import leave, start

    root, rank = Path(argv[1]), int(argv[2])
    code = start(root, rank, int(report) if report else None)
    leave(code, JobPaths(root).exit_code(rank))


# A DataLoader that spawns its workers imports this module in each of them.
if __name__ == "__main__":
    main(sys.argv)
