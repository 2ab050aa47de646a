"""Kernel-held locks: the only evidence that the process which answers for something lives.

Rule: the lock belongs to the open file description, so it may be passed on with its descriptor; that the
file exists means nothing.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from nbaas.config import own_folder


def take_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock of `path`, None where someone else does."""
    own_folder(path.parent)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def is_held(path: Path) -> bool:
    """Return whether someone holds the lock of `path`; makes no file."""
    fd = take_lock(path) if path.exists() else None
    if fd is not None:
        os.close(fd)
    return fd is None and path.exists()
