"""torch.distributed behind the engine interface: Gloo on the CPU, NCCL on GPUs, a place to meet at.

Rule: a rank may wait for a slow one without limit (rank 0 may evaluate for an hour); that a rank
has gone shows at once by its closed connections, that one hangs is the supervisor's to see.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nbaas.engines.base import (
    LOOPBACK_INTERFACE,
    START_TIMEOUT,
    Engine,
    Handle,
    ObjectCollectives,
    Rendezvous,
    flat_bytes,
    left,
    reals,
    row_bytes,
    rows_from_bytes,
    staged,
    summable,
)
from nbaas.engines.keyvalue import torch_store
from nbaas.errors import EngineError, EngineMissingError
from nbaas.records import Slot

if TYPE_CHECKING:
    import torch

STORE_VARIABLE = "NBAAS_DDP_STORE"  # a file, or host:port/token
NO_LIMIT = timedelta(days=30)
WIDENED = {"int16": "int64"}
MAX_DIMS = 8  # of a gathered tensor


class FileRendezvous:
    """A new file in the job's directory (0700): only its owner can join."""

    token = ""
    interfaces: Mapping[str, str] = {}

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        # A new folder per start: a gang that is started again must not read the old addresses.
        self._folder = tempfile.TemporaryDirectory(prefix="ddp-", dir=directory)
        self.address = str(Path(self._folder.name) / "store")

    def close(self) -> None:
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class DdpEngine(ObjectCollectives):
    name = "ddp"

    def __init__(self, group: Any, rank: int, world_size: int) -> None:
        self.rank = rank
        self.world_size = world_size
        self._group = group

    def allreduce_async_(self, tensor: torch.Tensor, *, name: str, average: bool = True) -> Handle:
        summable(tensor, average=average, name=name)
        if self.world_size == 1:
            return None
        tensor = reals(tensor)
        flat = staged(tensor, WIDENED)
        try:
            # The group itself, not torch.distributed.all_reduce: its Python checks cost 10 us.
            work = self._group.allreduce([flat])
        except RuntimeError as lost:
            raise left(name, lost) from lost
        return work, name, flat, tensor, average

    def wait(self, handle: Handle) -> None:
        if handle is None:
            return
        work, name, flat, tensor, average = handle
        try:
            work.wait()
        except RuntimeError as lost:
            raise left(name, lost) from lost
        if average:
            flat.div_(self.world_size)
        if flat is not tensor:
            tensor.copy_(flat)

    def allgather(self, tensor: torch.Tensor, *, name: str) -> torch.Tensor:
        import torch

        rows = tensor.detach().reshape(1) if tensor.dim() == 0 else tensor.detach()
        if self.world_size == 1:
            return rows.clone()
        counts = self._row_counts(rows, name)
        data = row_bytes(rows)
        longest = max(counts)
        padded = data.new_zeros(longest, data.shape[1])
        padded[: data.shape[0]] = data
        parts = [torch.empty_like(padded) for _ in counts]
        self._wait(self._group.allgather, [parts], [padded], name=name)
        joined = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
        return rows_from_bytes(joined, rows)

    def broadcast_(self, tensor: torch.Tensor, *, root: int = 0, name: str) -> None:
        import torch.distributed as dist

        if self.world_size == 1 or tensor.numel() == 0:
            return
        target = tensor.detach()
        flat = target.contiguous()
        options = dist.BroadcastOptions()
        options.rootRank = root
        self._wait(self._group.broadcast, [flat_bytes(flat)], options, name=name)
        if flat.data_ptr() != target.data_ptr():
            target.copy_(flat)

    def shutdown(self) -> None:
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()

    def _row_counts(self, rows: torch.Tensor, name: str) -> list[int]:
        """Return every rank's rows; raises EngineError on all ranks where their shapes differ."""
        import torch

        shape = torch.full((MAX_DIMS,), -1, dtype=torch.int64, device=rows.device)
        shape[: rows.dim()] = torch.tensor(rows.shape, dtype=torch.int64)
        parts = [torch.empty_like(shape) for _ in range(self.world_size)]
        self._wait(self._group.allgather, [parts], [shape], name=name)
        shapes = [tuple(size for size in part.tolist() if size >= 0) for part in parts]
        if len({found[1:] for found in shapes}) > 1:
            listed = ", ".join(f"rank {rank}: {found}" for rank, found in enumerate(shapes))
            raise EngineError(f"{name!r} gathers rows of different shapes: {listed}")
        return [found[0] for found in shapes]

    @staticmethod
    def _wait(collective: Any, *arguments: Any, name: str) -> None:
        try:
            collective(*arguments).wait()
        except RuntimeError as lost:
            raise left(name, lost) from lost


class DdpFactory:
    name = "ddp"

    def check(self, slots: Sequence[Slot] = ()) -> None:  # noqa: ARG002
        if importlib.util.find_spec("torch") is None:
            raise EngineMissingError("torch is not installed", hint="pip install torch")

    def rendezvous(self, directory: Path, slots: Sequence[Slot]) -> Rendezvous:  # noqa: ARG002
        return FileRendezvous(directory)

    def environment(self, slots: Sequence[Slot], rendezvous: Rendezvous) -> list[dict[str, str]]:
        address, token = rendezvous.address, rendezvous.token
        store = {STORE_VARIABLE: f"{address}/{token}" if token else address}
        networks = [rendezvous.interfaces.get(slot.host, LOOPBACK_INTERFACE) for slot in slots]
        # Without the interface Gloo asks DNS for the host's own name.
        return [
            {**store, "GLOO_SOCKET_IFNAME": network, "NCCL_SOCKET_IFNAME": network}
            for network in networks
        ]

    def start(self, slot: Slot, *, timeout: float = START_TIMEOUT) -> Engine:
        import torch
        import torch.distributed as dist
        from torch._C._distributed_c10d import FileStore

        place = os.environ[STORE_VARIABLE]
        alone = place.startswith("/")
        store = FileStore(place, slot.world_size) if alone else torch_store(place, timeout)
        _meet(store, slot, timeout)
        on_gpu = slot.gpu is not None and torch.cuda.is_available()
        try:
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
                store=store,
                rank=slot.rank,
                world_size=slot.world_size,
                timeout=timedelta(seconds=timeout),
            )
        except RuntimeError as failed:
            raise left("start", failed) from failed
        group = dist.distributed_c10d._get_default_group()  # noqa: SLF001
        group.set_timeout(NO_LIMIT)
        return DdpEngine(group, slot.rank, slot.world_size)


def _meet(store: Any, slot: Slot, timeout: float) -> None:
    """Return when all ranks are here; raises EngineError naming those that are not."""
    store.set(f"here/{slot.rank}", b"1")
    ranks = range(slot.world_size)
    try:
        store.wait([f"here/{rank}" for rank in ranks], timedelta(seconds=timeout))
    except RuntimeError as late:
        absent = [rank for rank in ranks if not store.check([f"here/{rank}"])]
        raise EngineError(
            f"rank {', '.join(map(str, absent))} of {slot.world_size} did not join "
            f"within {timeout:g} s"
        ) from late
