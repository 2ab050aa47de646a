"""Kernel-held locks: the only evidence that a supervisor lives.

Rules: the lock belongs to the open file description.  It is taken by the launcher, passed on with
the file descriptor and never given back while the job lives, so it is free only when no one answers
for the job.  What the file contains is information for people.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # At run time it would bring a TOML parser into every supervisor.
    from nbaas.config import Settings


def name_lock(settings: Settings, name: str) -> Path:
    """Return the lock that a running job of this name holds; its text is the id of the last one."""
    return settings.home / "names" / f"{name}.lock"


def write_owner(fd: int, text: str) -> None:
    """Note in a lock file that is held who holds it."""
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, text.encode(), 0)


def read_owner(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
