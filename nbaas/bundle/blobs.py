"""Blobs: large pieces of memory as files named by their SHA-256, written once and shared.

Rules: a blob is written under another name, synced, made read-only and then renamed; who finds one
compares it with the memory it stands for before relying on it.  That costs a tenth of hashing, so a
second run of a cell neither writes nor hashes what is the same as before.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from nbaas.bundle.memory import address_of, equal_memory
from nbaas.config import own_folder

CHUNK = 8 << 20  # bytes hashed and written at a time
# Memory that was stored before, by (address, bytes): what it held then, to be compared with now.
_stored: dict[tuple[int, int], str] = {}


def store_blob(blobs: Path, memory: memoryview, address: int) -> str:
    """Return the digest under which `memory`, which lies at `address`, is in `blobs`."""
    before = _stored.get((address, memory.nbytes))
    if before is not None and _holds(blobs / before, memory, address):
        _mark_used(blobs / before)
        return before
    own_folder(blobs)
    digest = _write(blobs, memory, address)
    if address:
        _stored[address, memory.nbytes] = digest
    return digest


def _mark_used(path: Path) -> None:
    """Set the time of access, from which `prune_blobs` counts; that of writing is its seal."""
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def _holds(path: Path, memory: memoryview, address: int) -> bool:
    """Tell whether the file at `path` is exactly this memory."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != memory.nbytes:
                return False
            with mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE) as mapped:
                here = address or address_of(memory)
                with memoryview(mapped) as view:
                    return equal_memory(here, address_of(view), memory.nbytes)
    except FileNotFoundError:
        return False


def _write(blobs: Path, memory: memoryview, address: int) -> str:
    """Write `memory` under its digest, hashing it meanwhile, unless it is there."""
    fd, name = tempfile.mkstemp(dir=blobs, prefix=".")
    temporary = Path(name)
    digest = hashlib.sha256()
    # Both let go of the interpreter lock: the disk does not wait for the hash.
    hashing = threading.Thread(target=_hash, args=(digest, memory))
    hashing.start()
    try:
        with os.fdopen(fd, "wb", buffering=0) as file:
            for start in range(0, memory.nbytes, CHUNK):
                _write_all(file.fileno(), memory[start : start + CHUNK])
            hashing.join()
            target = blobs / digest.hexdigest()
            if _holds(target, memory, address):
                _mark_used(target)
                return target.name
            os.fchmod(file.fileno(), 0o400)
            os.fsync(file.fileno())
        temporary.rename(target)
    finally:
        hashing.join()
        temporary.unlink(missing_ok=True)
    return target.name


def _hash(digest: hashlib._Hash, memory: memoryview) -> None:
    for start in range(0, memory.nbytes, CHUNK):
        digest.update(memory[start : start + CHUNK])


def _write_all(fd: int, chunk: memoryview) -> None:
    while chunk.nbytes:
        chunk = chunk[os.write(fd, chunk) :]


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prune_blobs(blobs: Path, used: Iterable[str], unused_for: float) -> int:
    """Remove blobs that are not in `used` and untouched for `unused_for` seconds; return the bytes."""
    kept = set(used)
    freed = 0
    for path in blobs.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            facts = path.stat()
            if (
                path.name not in kept
                and time.time() - max(facts.st_mtime, facts.st_atime) > unused_for
            ):
                path.unlink()
                freed += facts.st_size
    return freed
