"""Memory behind tensors and arrays: spans of addresses, joined into regions that are written once.

Spans that overlap share a region, so views, tied weights and a tensor made of an array still share
their memory on the other side; a region holds what is referred to and no more of a storage.
"""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbaas.bundle.pages import PAGE, written_pages

ALIGNMENT = 64  # bytes, of small regions in their common file


@dataclass(frozen=True, slots=True)
class Region:
    """A piece of memory of the process that captures."""

    device: str  # 'cpu', or the device its bytes were copied from
    address: int
    nbytes: int
    memory: memoryview = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class StoredRegion:
    """Where the bytes of a region are: `file` is a name in the bundle, or a blob's digest."""

    file: str
    offset: int
    nbytes: int
    device: str = "cpu"


class SpanTable:
    """Notes which memory is referred to while values are pickled."""

    def __init__(self) -> None:
        self.alive: list[Any] = []
        self._spans: list[tuple[str, int, int]] = []  # device, first address, end
        self._known: dict[tuple[str, int, int], int] = {}
        self._read: dict[int, Callable[[int, int], memoryview]] = {}  # spans off the CPU

    def __len__(self) -> int:
        return len(self._spans)

    def add(self, address: int, nbytes: int, owner: object) -> int:
        """Return the number of the span of main memory at `address`, which `owner` keeps alive."""
        return self._add("cpu", address, nbytes, owner)

    def add_device(
        self, device: str, address: int, nbytes: int, read: Callable[[int, int], memoryview]
    ) -> int:
        """Return the number of a span of device memory; `read(address, nbytes)` copies from it."""
        span = self._add(device, address, nbytes, read)
        self._read[span] = read
        return span

    def _add(self, device: str, address: int, nbytes: int, owner: object) -> int:
        key = (device, address, address + nbytes)
        if key not in self._known:
            self._known[key] = len(self._spans)
            self._spans.append(key)
            self.alive.append(owner)
        return self._known[key]

    def size_from(self, first: int) -> int:
        """Return the bytes of the spans from number `first` on that no earlier span covers."""
        covered = _joined(self._spans[:first])
        everything = _joined(self._spans)
        return sum(end - start for _, start, end in everything) - sum(
            end - start for _, start, end in covered
        )

    def regions(self) -> tuple[tuple[Region, ...], tuple[tuple[int, int], ...]]:
        """Return the regions, and for each span its region's number and its offset in it, bytes."""
        order = sorted(range(len(self._spans)), key=lambda span: self._spans[span])
        placed: dict[int, tuple[int, int]] = {}
        bounds: list[tuple[str, int, int]] = []
        members: list[int] = []
        for span in order:
            device, start, end = self._spans[span]
            # Spans that only touch belong to neighbours in the heap, not to one another.
            if not bounds or bounds[-1][0] != device or start >= bounds[-1][2]:
                bounds.append((device, start, end))
                members.append(span)
            elif end > bounds[-1][2]:
                bounds[-1] = (device, bounds[-1][1], end)
            placed[span] = (len(bounds) - 1, start - bounds[-1][1])
        regions = tuple(
            Region(device, start, end - start, self._bytes(span, start, end - start))
            for span, (device, start, end) in zip(members, bounds, strict=True)
        )
        return regions, tuple(placed[span] for span in range(len(self._spans)))

    def _bytes(self, span: int, address: int, nbytes: int) -> memoryview:
        read = self._read.get(span)
        return read(address, nbytes) if read else memory_at(address, nbytes)


def _joined(spans: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    joined: list[tuple[str, int, int]] = []
    for device, start, end in sorted(spans):
        if not joined or joined[-1][0] != device or start >= joined[-1][2]:
            joined.append((device, start, end))
        elif end > joined[-1][2]:
            joined[-1] = (device, joined[-1][1], end)
    return joined


def memory_at(address: int, nbytes: int) -> memoryview:
    """Return the memory at `address`; its owner must outlive the view."""
    return memoryview((ctypes.c_char * nbytes).from_address(address)).cast("B")


def address_of(memory: memoryview) -> int:
    """Return the address of the first byte of a writable, contiguous view."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory)) if memory.nbytes else 0


_MEMCMP = ctypes.CDLL(None).memcmp
_MEMCMP.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_MEMCMP.restype = ctypes.c_int


def equal_memory(first: int, second: int, nbytes: int) -> bool:
    """Tell whether the bytes at two addresses are equal; several GB a second."""
    return nbytes == 0 or _MEMCMP(first, second, nbytes) == 0


class MappedFile:
    """A file in memory twice: private, where ranks may write, and as it is on disk."""

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            # Copy on write: all ranks of a host read the same pages, and none sees another's writes.
            self._private = mmap.mmap(
                fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
            )
            self._pristine = mmap.mmap(
                fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
            )
        finally:
            os.close(fd)
        self.memory = memoryview(self._private)
        self.address = address_of(self.memory)
        self.pristine_address = address_of(memoryview(self._pristine))
        self.written: Any = None  # by page: may it have been written; None where nobody knows

    def differs(self, offset: int, nbytes: int) -> bool:
        """Tell whether the private bytes from `offset` on are no longer those on disk."""
        if self.written is not None and nbytes:
            pages = self.written[offset // PAGE : (offset + nbytes - 1) // PAGE + 1]
            if not pages.any():
                return False
        return not equal_memory(self.address + offset, self.pristine_address + offset, nbytes)


class LoadedRegions:
    """The memory of a bundle's values in the process that loads them."""

    def __init__(
        self,
        regions: tuple[StoredRegion, ...],
        spans: tuple[tuple[int, int], ...],
        path_of: Callable[[str], Path],
        device: str = "cpu",
    ) -> None:
        self._regions = regions
        self._spans = spans
        self._path_of = path_of
        self.device = device  # where values that were on a device go
        self._files: dict[str, MappedFile] = {}
        self._mapped: list[MappedFile] = []  # by address
        self._storages: dict[int, Any] = {}
        self._on_device: list[tuple[int, int, int]] = []  # address, bytes, address as on disk

    def _file(self, name: str) -> MappedFile:
        if name not in self._files:
            file = self._files[name] = MappedFile(self._path_of(name))
            bisect.insort(self._mapped, file, key=lambda file: file.address)
        return self._files[name]

    def memory(self, span: int) -> tuple[memoryview, int]:
        """Return the memory of the span's whole region, writable, and the span's offset in it."""
        number, offset = self._spans[span]
        region = self._regions[number]
        whole = self._file(region.file).memory
        return whole[region.offset : region.offset + region.nbytes], offset

    def device_of(self, span: int) -> str:
        stored = self._regions[self._spans[span][0]].device
        return "cpu" if stored == "cpu" else self.device

    def storage(self, span: int) -> tuple[Any, int]:
        """Return the torch storage of the span's region, one for all its tensors, and the offset."""
        import torch

        number, offset = self._spans[span]
        if number not in self._storages:
            memory, _ = self.memory(span)
            tensor = torch.frombuffer(memory, dtype=torch.uint8).to(self.device_of(span))
            self._storages[number] = tensor.untyped_storage()
            if tensor.device.type != "cpu":
                region = self._regions[number]
                pristine = self._file(region.file).pristine_address + region.offset
                self._on_device.append((tensor.data_ptr(), region.nbytes, pristine))
        return self._storages[number], offset

    def changed(self, address: int, nbytes: int) -> bool:
        """Tell whether main memory differs from what was loaded; other memory always does."""
        position = bisect.bisect_right(self._mapped, address, key=lambda file: file.address) - 1
        if position < 0:
            return True
        file = self._mapped[position]
        offset = address - file.address
        if offset + nbytes > file.memory.nbytes:
            return True
        return file.differs(offset, nbytes)

    @contextlib.contextmanager
    def watched_pages(self) -> Iterator[None]:
        """Let `changed` in this block skip pages that were not written before it began."""
        for file in self._mapped:
            file.written = written_pages(file.address, file.memory.nbytes)
        try:
            yield
        finally:
            for file in self._mapped:
                file.written = None

    def changed_on_device(self, address: int, copy: memoryview) -> bool:
        """Tell whether device memory, of which `copy` is a copy, differs from what was loaded."""
        for start, nbytes, pristine in self._on_device:
            offset = address - start
            if offset >= 0 and offset + copy.nbytes <= nbytes:
                return not equal_memory(address_of(copy), pristine + offset, copy.nbytes)
        return True

    def buffers(self, wanted: tuple[tuple[int, int], ...]) -> Iterator[memoryview]:
        """Yield the out-of-band buffers of the pickles: (span, bytes) each."""
        for span, nbytes in wanted:
            memory, offset = self.memory(span)
            yield memory[offset : offset + nbytes]
