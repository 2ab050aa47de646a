"""Blobs: memory as files named by their SHA-256, written once and shared by jobs and ranks.

Rules: a blob is written under another name, synced, made read-only and then renamed.  Memory that was
stored before is compared with its blob, never assumed to be the same: that costs a tenth of hashing,
so a second run of a cell neither writes nor hashes what has not changed.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import mmap
import os
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path

from nbaas.bundle.memory import ALIGNMENT, Region, StoredRegion, address_of, equal_memory
from nbaas.config import own_folder

CHUNK = 8 << 20  # bytes hashed and written at a time
WRITERS = 8  # threads that write and compare
PACK = 64 << 20  # bytes of small regions that share a blob
OWN_BLOB = 16 << 20  # bytes from which a region is a blob of its own
LOOSE = 64 << 10  # bytes of new small regions in all, below which they need no blob
PARALLEL = 32 << 20  # bytes compared in one go
WRITEV = 512  # pieces of memory in one system call
Key = tuple[str, int, int]  # device, address, bytes
Place = tuple[str, int]  # digest of a blob, offset in it

# Where memory was stored before: blob and offset.  It is compared with what is there now.
_stored: dict[Key, Place] = {}


def store_regions(blobs: Path, regions: Sequence[Region]) -> list[StoredRegion | None]:
    """Return where each region is in `blobs`; None for a few small ones, left to the caller.

    Regions that lie next to each other in `regions` share blobs.
    """
    # A model is many regions: one after the other, each would wait for the disk.
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as workers:
        stored = _unchanged(blobs, regions, workers)
        new = [number for number in range(len(regions)) if number not in stored]
        groups = list(_groups(new, regions))
        if groups:
            own_folder(blobs)
        members = [[regions[number] for number in group] for group in groups]
        digests = workers.map(lambda group: _write(blobs, group), members)
        for group, digest in zip(groups, digests, strict=True):
            for number, offset in zip(group, _offsets(group, regions), strict=True):
                stored[number] = (digest, offset)
                _stored[_key(regions[number])] = (digest, offset)
    return [_as_stored(region, stored.get(number)) for number, region in enumerate(regions)]


def _as_stored(region: Region, place: Place | None) -> StoredRegion | None:
    return StoredRegion(*place, region.nbytes, region.device) if place else None


def _key(region: Region) -> Key:
    return region.device, region.address, region.nbytes


def _groups(new: Sequence[int], regions: Sequence[Region]) -> Iterator[list[int]]:
    """Yield the numbers of the regions of each new blob."""
    small = [number for number in new if regions[number].nbytes < OWN_BLOB]
    yield from ([number] for number in new if regions[number].nbytes >= OWN_BLOB)
    if sum(regions[number].nbytes for number in small) < LOOSE:
        return
    group: list[int] = []
    size = 0
    for number in small:
        group.append(number)
        size += regions[number].nbytes
        if size >= PACK:
            yield group
            group, size = [], 0
    if group:
        yield group


def _offsets(group: Sequence[int], regions: Sequence[Region]) -> Iterator[int]:
    """Yield where in their blob the regions of a group begin, bytes."""
    offset = 0
    for number in group:
        yield offset
        offset += regions[number].nbytes + -regions[number].nbytes % ALIGNMENT


# ---- memory that was stored before -------------------------------------------------------------


def _unchanged(blobs: Path, regions: Sequence[Region], workers: Executor) -> dict[int, Place]:
    """Return where those regions are, by number, that a blob still holds byte for byte."""
    known: dict[str, list[int]] = {}
    places = [_stored.get(_key(region)) for region in regions]
    for number, place in enumerate(places):
        if place is not None:
            known.setdefault(place[0], []).append(number)

    def held(digest: str) -> list[int]:
        claims = [(places[number][1], regions[number]) for number in known[digest]]  # type: ignore[index]
        answers = _held(blobs / digest, claims)
        kept = [number for number, answer in zip(known[digest], answers, strict=True) if answer]
        # A pack of which little is used any more would be dragged along for that little.
        size = sum(regions[number].nbytes for number in kept)
        if not kept or size * 2 < (blobs / digest).stat().st_size:
            return []
        _mark_used(blobs / digest)
        return kept

    found = {number for kept in workers.map(held, known) for number in kept}
    return {n: place for n, place in enumerate(places) if place is not None and n in found}


def _held(path: Path, claims: Sequence[tuple[int, Region]]) -> list[bool]:
    """Tell for each (offset, region) whether the file at `path` holds its bytes there."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            with (
                mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE) as mapped,
                memoryview(mapped) as view,
            ):
                start = address_of(view)
                return [
                    offset + region.nbytes <= size and _equal(region, start + offset)
                    for offset, region in claims
                ]
    except (FileNotFoundError, ValueError):  # gone, or empty
        return [False] * len(claims)


def _equal(region: Region, address: int) -> bool:
    here = region.address if region.device == "cpu" else address_of(region.memory)
    if region.nbytes <= PARALLEL:
        return equal_memory(here, address, region.nbytes)

    def equal(at: int) -> bool:
        return equal_memory(here + at, address + at, min(PARALLEL, region.nbytes - at))

    with concurrent.futures.ThreadPoolExecutor(WRITERS) as workers:
        return all(workers.map(equal, range(0, region.nbytes, PARALLEL)))


def _mark_used(path: Path) -> None:
    """Set the time of access, from which `prune_blobs` counts; that of writing is its seal."""
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


# ---- memory that is new ------------------------------------------------------------------------


def _write(blobs: Path, group: Sequence[Region]) -> str:
    """Write regions behind one another under their digest, hashing meanwhile, unless they are there."""
    pieces = list(_pieces(group))
    fd, name = tempfile.mkstemp(dir=blobs, prefix=".")
    temporary = Path(name)
    digest = hashlib.sha256()
    # Both let go of the interpreter lock: the disk does not wait for the hash.
    hashing = threading.Thread(target=_hash, args=(digest, pieces))
    hashing.start()
    try:
        with os.fdopen(fd, "wb", buffering=0) as file:
            for start in range(0, len(pieces), WRITEV):
                _write_all(file.fileno(), pieces[start : start + WRITEV])
            hashing.join()
            target = blobs / digest.hexdigest()
            claims = list(zip(_offsets(range(len(group)), group), group, strict=True))
            if target.exists() and all(_held(target, claims)):
                _mark_used(target)
                return target.name
            os.fchmod(file.fileno(), 0o400)
            os.fsync(file.fileno())
        temporary.rename(target)
    finally:
        hashing.join()
        temporary.unlink(missing_ok=True)
    return target.name


def _pieces(group: Sequence[Region]) -> Iterator[memoryview]:
    """Yield the bytes of a blob: the memory of its regions, and zeros between them."""
    zeros = memoryview(bytes(ALIGNMENT))
    for region in group:
        for start in range(0, region.nbytes, CHUNK):
            yield region.memory[start : start + CHUNK]
        if region is not group[-1] and (gap := -region.nbytes % ALIGNMENT):
            yield zeros[:gap]


def _hash(digest: hashlib._Hash, pieces: Sequence[memoryview]) -> None:
    for piece in pieces:
        digest.update(piece)


def _write_all(fd: int, pieces: list[memoryview]) -> None:
    while pieces:
        written = os.writev(fd, pieces)
        while pieces and written >= pieces[0].nbytes:
            written -= pieces.pop(0).nbytes
        if written:
            pieces[0] = pieces[0][written:]


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
