"""`python -I -S supervise.py ROOT LOCK NAME_LOCK`: becomes the detached supervisor of a job.

Run by path: neither the user's PYTHONPATH nor site-packages are searched.  The first process returns
at once; the second, in a session of its own, holds the two lock descriptors that it was passed.
"""

from __future__ import annotations

import os
import sys


def main(argv: list[str]) -> None:
    root, *fds = argv[1:]
    if os.fork():
        os._exit(0)
    os.umask(0o077)
    from pathlib import Path

    # At the end: what lies beside nbaas in site-packages must not shadow the standard library.
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    os.chdir("/")
    from nbaas.jobs.lifetime import answer_for

    answer_for(root, [int(fd) for fd in fds])


if __name__ == "__main__":
    main(sys.argv)
