"""Disk space of a running job: logs that flood are cut at their old end, a full disk is noticed.

Rule: nothing here waits for a rank, and no rank for it; what is cut off is counted.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

LOG_LIMIT = 64 << 20  # bytes a log may take on the disk
LOG_KEPT = 16 << 20  # bytes of its end that stay then
BLOCK = 1 << 12
PUNCH_HOLE_KEEP_SIZE = 0x03
SCARCE = 1 << 20  # bytes free: what is left for states


def trim_log(path: Path, limit: int = LOG_LIMIT, kept: int = LOG_KEPT) -> int:
    """Give the old part of a log that takes over `limit` bytes back to the disk.

    The rank goes on writing to the same file: a hole is made, which readers find as a gap, and no
    offset moves.  Returns the bytes given back.
    """
    try:
        found = path.stat()
    except OSError:
        return 0
    if found.st_blocks * 512 <= limit or sys.platform != "linux":
        return 0
    end = (found.st_size - kept) // BLOCK * BLOCK
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        length = ctypes.c_int64(end)
        if libc.fallocate(fd, PUNCH_HOLE_KEEP_SIZE, ctypes.c_int64(0), length) == 0:
            return found.st_blocks * 512 - os.fstat(fd).st_blocks * 512
        # No holes here (NFS before 4.2): the rank's writes append to the emptied file.
        os.ftruncate(fd, 0)
        return found.st_size
    finally:
        os.close(fd)


def data_start(fd: int, offset: int) -> int:
    """Return where, from `offset` on, a file has data: behind a hole, or `offset` itself."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError:
        return offset


def is_scarce(folder: Path) -> bool:
    """Return whether the disk below `folder` is full but for what states need."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < SCARCE
