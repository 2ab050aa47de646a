"""From `--gpus 4` or `--ranks 2` to one Slot per rank.  Pure: what a host has comes in as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbaas.errors import PlacementError, UsageError
from nbaas.records import Slot

MAX_RANKS = 4096


@dataclass(frozen=True, slots=True)
class HostResources:
    """What one host offers: logical CPU cores and GPU indices with their names."""

    name: str
    cores: int
    gpus: tuple[str, ...] = ()  # model name by index


def place(
    here: HostResources, *, gpus: int | None = None, ranks: int | None = None
) -> tuple[Slot, ...]:
    """Return one slot per rank on `here`; neither given means one rank per GPU, else one on the CPU.

    Raises: UsageError: both flags, or a count below 1.  PlacementError: GPUs that are not here.
    """
    if gpus is not None and ranks is not None:
        raise UsageError(f"--gpus {gpus} and --ranks {ranks} together", hint="give one of the two")
    wanted = gpus if gpus is not None else ranks
    if wanted is not None and not 1 <= wanted <= MAX_RANKS:
        flag = "--gpus" if gpus is not None else "--ranks"
        raise UsageError(f"{flag} {wanted}: must be 1 or more", hint=f"{flag} 2 starts two ranks")
    if gpus is not None:
        return _gpu_slots(here, gpus)
    if ranks is None and here.gpus:
        return _gpu_slots(here, len(here.gpus))
    world_size = ranks or 1
    threads = max(1, here.cores // world_size)
    return tuple(
        Slot(rank=rank, local_rank=rank, world_size=world_size, host=here.name, threads=threads)
        for rank in range(world_size)
    )


def _gpu_slots(here: HostResources, gpus: int) -> tuple[Slot, ...]:
    if gpus > len(here.gpus):
        found = f"{len(here.gpus)} GPUs" if here.gpus else "no GPU"
        raise PlacementError(
            f"--gpus {gpus}: {here.name} has {found} and {here.cores} cores",
            hint=f"--ranks {gpus} runs {gpus} ranks on the CPU"
            if not here.gpus
            else f"--gpus {len(here.gpus)} is the most this host has",
        )
    threads = max(1, here.cores // gpus)
    return tuple(
        Slot(rank=rank, local_rank=rank, world_size=gpus, host=here.name, threads=threads, gpu=rank)
        for rank in range(gpus)
    )


def describe(slots: Sequence[Slot]) -> str:
    """Return '2 ranks on the CPU' or '4 GPUs' for a header line."""
    count = len(slots)
    if slots and slots[0].gpu is not None:
        return f"{count} GPU{'s' if count != 1 else ''}"
    return f"{count} rank{'s' if count != 1 else ''} on the CPU"
