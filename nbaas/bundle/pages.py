"""Which pages of a private file mapping were written to, as the kernel's page tables tell.

Rule: only 'not written' is relied on; what may have been written is compared byte by byte.
Source of the bits: Linux, Documentation/admin-guide/mm/pagemap.rst.
"""

from __future__ import annotations

import mmap
import os
from functools import cache
from typing import Any

PAGE = mmap.PAGESIZE
PRESENT, SWAPPED, FILE = 1 << 63, 1 << 62, 1 << 61
ENTRY = 8  # bytes


def written_pages(address: int, nbytes: int) -> Any:
    """Return an array with True for each page of a private mapping that may have been written.

    `address` is the mapping's first byte.  None where this system does not tell.
    """
    return _read(address, nbytes) if _tells() else None


def _read(address: int, nbytes: int) -> Any:
    import numpy as np

    count = -(-nbytes // PAGE)
    try:
        fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.pread(fd, count * ENTRY, address // PAGE * ENTRY)
    except OSError:
        return None
    finally:
        os.close(fd)
    if len(data) != count * ENTRY:
        return None
    entries = np.frombuffer(data, np.uint64)
    # A private page that was written is a copy: there is one, and it is no longer the file's.
    there = (entries & np.uint64(PRESENT | SWAPPED)) != 0
    return there & ((entries & np.uint64(FILE)) == 0)


@cache
def _tells() -> bool:
    """Tell whether page tables can be read here and mean what they should: tried on three pages."""
    if not hasattr(os, "memfd_create"):
        return False
    fd = os.memfd_create("nbaas-pages", os.MFD_CLOEXEC)
    try:
        os.write(fd, bytes(range(1, 4)) * PAGE)
        mapped = mmap.mmap(fd, 3 * PAGE, flags=mmap.MAP_PRIVATE)
    finally:
        os.close(fd)
    from nbaas.bundle.memory import address_of

    with mapped:
        with memoryview(mapped) as view:
            address = address_of(view)
        mapped[PAGE]  # read
        mapped[2 * PAGE] = 0  # written
        found = _read(address, 3 * PAGE)
        return found is not None and found.tolist() == [False, False, True]
