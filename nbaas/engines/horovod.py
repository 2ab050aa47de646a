"""Horovod behind the engine interface: its collectives only, our own start and our own means.

Rule: of horovod.torch only init, allreduce_async_, allgather, broadcast_, synchronize and shutdown
are used; DistributedOptimizer and broadcast_optimizer_state change results (DECISIONS.md).
HOROVOD_CYCLE_TIME and HOROVOD_FUSION_THRESHOLD are never set together: 0.28.1 then crashes when a
process initialises it a second time.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from nbaas.engines.keyvalue import POLL_INTERVAL, ask, horovod_place
from nbaas.engines.rendezvous import KeyValueServer
from nbaas.errors import EngineError, EngineMissingError
from nbaas.records import Slot

if TYPE_CHECKING:
    import torch

# A rank whose process is frozen is given up after this; a slow one is not: Horovod's background
# threads answer each other however long the training thread takes.
GLOO_TIMEOUT = 30  # seconds
SPIN_TIME = 0.01  # seconds; a sleep would cost a small model's step more than its sums
PAUSE = 0.0002  # seconds
MEETING = "nbaas-here"  # scope in which ranks say that they are here
WIDENED = {"bfloat16": "float32", "uint8": "int64", "int8": "int64", "int16": "int64"}


class HorovodEngine(ObjectCollectives):
    name = "horovod"

    def __init__(self, rank: int, world_size: int) -> None:
        import horovod.torch as hvd

        self.rank = rank
        self.world_size = world_size
        self._hvd = hvd

    def allreduce_async_(self, tensor: torch.Tensor, *, name: str, average: bool = True) -> Handle:
        summable(tensor, average=average, name=name)
        if self.world_size == 1:
            return None
        tensor = reals(tensor)
        flat = staged(tensor, WIDENED)
        try:
            work = self._hvd.allreduce_async_(flat, name=name, op=self._hvd.Sum)
        except self._hvd.HorovodInternalError as lost:
            raise left(name, lost) from lost
        return work, name, flat, tensor, average

    def wait(self, handle: Handle) -> None:
        if handle is None:
            return
        work, name, flat, tensor, average = handle
        try:
            self._idle_until_done(work)
            self._hvd.synchronize(work)
        except self._hvd.HorovodInternalError as lost:
            raise left(name, lost) from lost
        if average:
            # A division, not Horovod's multiplication by 1/n: the mean of equal values is exact.
            flat.div_(self.world_size)
        if flat is not tensor:
            tensor.copy_(flat)

    def _idle_until_done(self, work: int) -> None:
        """Return when `work` is done: spin while it may be a moment, then leave the core to others.

        Horovod's own wait spins in C for ever: a core is lost, and no signal is heard.
        """
        done = self._hvd.poll
        spin_end = time.perf_counter() + SPIN_TIME
        while not done(work):
            if time.perf_counter() < spin_end:
                os.sched_yield()
            else:
                time.sleep(PAUSE)

    def allgather(self, tensor: torch.Tensor, *, name: str) -> torch.Tensor:
        rows = tensor.detach().reshape(1) if tensor.dim() == 0 else tensor.detach()
        if self.world_size == 1:
            return rows.clone()
        try:
            joined = self._hvd.allgather(row_bytes(rows), name=name)
        except self._hvd.HorovodInternalError as lost:
            raise left(name, lost) from lost
        return rows_from_bytes(joined, rows)

    def broadcast_(self, tensor: torch.Tensor, *, root: int = 0, name: str) -> None:

        if self.world_size == 1 or tensor.numel() == 0:
            return
        target = tensor.detach()
        flat = target.contiguous()
        try:
            self._hvd.broadcast_(flat_bytes(flat), root, name=name)
        except self._hvd.HorovodInternalError as lost:
            raise left(name, lost) from lost
        if flat.data_ptr() != target.data_ptr():
            target.copy_(flat)

    def shutdown(self) -> None:
        if self._hvd.is_initialized():
            self._hvd.shutdown()


class HorovodFactory:
    name = "horovod"

    def check(self, slots: Sequence[Slot] = ()) -> None:
        torch_version = installed("torch")
        if torch_version is None:
            raise EngineMissingError("torch is not installed", hint="pip install torch")
        built = built_for()
        hint = "nbaas engine build; --engine ddp works meanwhile"
        if built is None:
            raise EngineMissingError(f"horovod is not installed for torch {torch_version}", hint)
        if built != torch_version:
            raise EngineMissingError(
                f"horovod was built for torch {built}, {torch_version} is installed", hint
            )
        if any(slot.gpu is not None for slot in slots) and without_nccl():
            raise EngineMissingError(
                "horovod was built without NCCL and cannot reach GPUs",
                hint="with nvcc on the PATH: nbaas engine build; --engine ddp uses the GPUs now",
            )

    def rendezvous(self, directory: Path, slots: Sequence[Slot]) -> Rendezvous:  # noqa: ARG002
        return KeyValueServer()

    def environment(self, slots: Sequence[Slot], rendezvous: Rendezvous) -> list[dict[str, str]]:
        host, port = horovod_place(rendezvous.address, rendezvous.token)
        shared = {
            "HOROVOD_CONTROLLER": "gloo",
            "HOROVOD_CPU_OPERATIONS": "gloo",
            "HOROVOD_GLOO_RENDEZVOUS_ADDR": host,
            "HOROVOD_GLOO_RENDEZVOUS_PORT": port,
            "HOROVOD_GLOO_TIMEOUT_SECONDS": str(GLOO_TIMEOUT),
            # What it would log when a rank leaves is noise in the user's log; wait() says it.
            "HOROVOD_LOG_LEVEL": "fatal",
        }
        networks = [rendezvous.interfaces.get(slot.host, LOOPBACK_INTERFACE) for slot in slots]
        return [
            shared | {"HOROVOD_GLOO_IFACE": network} | places
            for network, places in zip(networks, horovod_places(slots), strict=True)
        ]

    def start(self, slot: Slot, *, timeout: float = START_TIMEOUT) -> Engine:
        deadline = time.monotonic() + timeout
        import horovod.torch as hvd

        meet(os.environ, slot, timeout)
        failed: list[BaseException] = []

        def initialise() -> None:
            try:
                hvd.init()
            except (RuntimeError, ValueError, ImportError) as error:
                failed.append(error)

        # In a thread: init waits in C, deaf to signals and without a limit of its own.
        joining = threading.Thread(target=initialise, name="hvd.init", daemon=True)
        joining.start()
        joining.join(max(1.0, deadline - time.monotonic()))
        if failed:
            raise EngineError(f"Horovod did not start: {failed[0]}") from failed[0]
        if joining.is_alive():
            raise EngineError(f"Horovod's init did not return within {timeout:g} s")
        return HorovodEngine(slot.rank, slot.world_size)


def installed(package: str) -> str | None:
    """Return the version of an installed distribution, None if there is none; imports nothing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def without_nccl() -> bool:
    """Return whether the installed Horovod is known to serve CPU ranks only: our own wheels say."""
    return (installed("horovod") or "").endswith("+cpu")


def build_facts() -> dict[str, Any] | None:
    """Return what the installed Horovod was built with; None where it is not usable with torch."""
    found = importlib.util.find_spec("horovod")
    for folder in (found.submodule_search_locations or []) if found else []:
        metadata = Path(folder) / "metadata.json"
        if metadata.is_file() and any(Path(folder, "torch").glob("mpi_lib_v2*.so")):
            facts: dict[str, Any] = json.loads(metadata.read_text())
            return facts
    return None


def built_for() -> str | None:
    """Return the torch version that the installed Horovod was built for, None if there is none."""
    facts = build_facts()
    return str(facts["pytorch"]) if facts and "pytorch" in facts else None


def horovod_places(slots: Sequence[Slot]) -> list[dict[str, str]]:
    """Return each rank's place in the world in Horovod's names, by rank.

    The cross world of a rank joins the ranks with its local rank on all hosts.
    """
    on_host: dict[str, list[int]] = {}
    across: dict[int, list[int]] = {}
    for slot in slots:
        on_host.setdefault(slot.host, []).append(slot.rank)
        across.setdefault(slot.local_rank, []).append(slot.rank)
    return [
        {
            "HOROVOD_HOSTNAME": slot.host,
            "HOROVOD_RANK": str(slot.rank),
            "HOROVOD_SIZE": str(slot.world_size),
            "HOROVOD_LOCAL_RANK": str(slot.local_rank),
            "HOROVOD_LOCAL_SIZE": str(len(on_host[slot.host])),
            "HOROVOD_CROSS_RANK": str(across[slot.local_rank].index(slot.rank)),
            "HOROVOD_CROSS_SIZE": str(len(across[slot.local_rank])),
        }
        for slot in slots
    ]


def meet(environ: os._Environ[str] | dict[str, str], slot: Slot, timeout: float) -> None:
    """Return when all ranks are at the rendezvous; raises EngineError naming those that are not.

    Ranks differ by seconds in their imports; Gloo's own short limit begins only after this.
    """
    host = environ["HOROVOD_GLOO_RENDEZVOUS_ADDR"]
    port = int(environ["HOROVOD_GLOO_RENDEZVOUS_PORT"])
    deadline = time.monotonic() + timeout
    ask(host, port, "PUT", f"/{MEETING}/{slot.rank}", b"1")
    while True:
        here = set(ask(host, port, "GET", f"/{MEETING}/").decode().split(","))
        absent = [str(rank) for rank in range(slot.world_size) if str(rank) not in here]
        if not absent:
            return
        if time.monotonic() > deadline:
            raise EngineError(
                f"rank {', '.join(absent)} of {slot.world_size} did not join within {timeout:g} s"
            )
        time.sleep(POLL_INTERVAL)
