"""What an engine is: collectives in the rank, rendezvous and environment in the supervisor.

Rule: nothing here or at the top of an engine's module imports torch or the engine itself; the
supervisor, which stays small, imports them too.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from nbaas.errors import EngineError, UsageError
from nbaas.records import Slot

if TYPE_CHECKING:
    import torch

Handle = Any  # what allreduce_async_ gives back; only `wait` of the same engine reads it

LOOPBACK_INTERFACE = "lo"
START_TIMEOUT = 120.0  # seconds: every rank must have joined by then
FACTORIES = {
    "horovod": "nbaas.engines.horovod:HorovodFactory",
    "ddp": "nbaas.engines.ddp:DdpFactory",
    "serial": "nbaas.engines.serial:SerialFactory",
}


class Engine(Protocol):
    """The collectives of one started rank.

    Every rank calls the same collectives with the same names in the same order.  A name is used
    again at each step (Horovod remembers what it agreed on by name), never twice at one time.
    """

    name: str
    rank: int
    world_size: int

    def allreduce_async_(self, tensor: torch.Tensor, *, name: str, average: bool = True) -> Handle:
        """Start the sum, or the mean, of `tensor` over all ranks, in place; same bits on each.

        Any shape, equal on all ranks; CPU or CUDA; float16 to float64, bfloat16, integers (sum).
        The tensor must not be touched before `wait`.
        """

    def wait(self, handle: Handle) -> None:
        """Return when the reduction is done; raises EngineError when a rank has left."""

    def allgather(self, tensor: torch.Tensor, *, name: str) -> torch.Tensor:
        """Return the tensors of all ranks joined along dim 0, whose size may differ by rank."""

    def broadcast_(self, tensor: torch.Tensor, *, root: int = 0, name: str) -> None:
        """Set `tensor` on every rank to the one of rank `root`."""

    def allgather_object(self, value: Any, *, name: str) -> list[Any]:
        """Return every rank's value, by rank."""

    def broadcast_object(self, value: Any, *, root: int = 0, name: str) -> Any:
        """Return rank `root`'s value; what the others give is ignored."""

    def barrier(self, *, name: str) -> None:
        """Return when every rank has come here."""

    def shutdown(self) -> None:
        """Leave the world; a second call does nothing."""


class Rendezvous(Protocol):
    """The place where ranks find each other, kept open by the supervisor while they start."""

    @property
    def address(self) -> str: ...
    @property
    def token(self) -> str:
        """What ranks must show there; '' where only processes of this user can come."""

    @property
    def interfaces(self) -> Mapping[str, str]:
        """The network interface of each host's ranks; a host that is not named uses loopback."""

    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...


class EngineFactory(Protocol):
    name: str

    def check(self, slots: Sequence[Slot] = ()) -> None:
        """Raise EngineMissingError where ranks cannot run on `slots`; takes milliseconds."""

    def rendezvous(self, directory: Path, slots: Sequence[Slot]) -> Rendezvous:
        """Open a new meeting place for one start of the gang; files go below `directory`."""

    def environment(self, slots: Sequence[Slot], rendezvous: Rendezvous) -> list[dict[str, str]]:
        """Return what each rank's environment must hold besides its own, by rank."""

    def start(self, slot: Slot, *, timeout: float = START_TIMEOUT) -> Engine:
        """Join the world from inside the rank, reading its environment.

        Raises: EngineError: a rank did not come within `timeout` seconds.
        """


def engine_named(name: str) -> EngineFactory:
    """Return the engine called `name`; raises UsageError naming the known ones."""
    if name not in FACTORIES:
        raise UsageError(f"no engine called {name!r}", hint="known: " + ", ".join(FACTORIES))
    module, _, factory = FACTORIES[name].partition(":")
    made: EngineFactory = getattr(importlib.import_module(module), factory)()
    return made


class ObjectCollectives:
    """Objects and the barrier, over an engine's own allgather and broadcast_."""

    name: str
    rank: int
    world_size: int

    def allgather(self, tensor: torch.Tensor, *, name: str) -> torch.Tensor:
        raise NotImplementedError

    def broadcast_(self, tensor: torch.Tensor, *, root: int = 0, name: str) -> None:
        raise NotImplementedError

    def allgather_object(self, value: Any, *, name: str) -> list[Any]:
        """One round: each rank's bytes carry their own length in front."""
        if self.world_size == 1:
            return [value]
        payload = pickle.dumps(value, protocol=5)
        framed = _as_tensor(len(payload).to_bytes(8, "little") + payload)
        joined = bytes(self.allgather(framed, name=name).numpy())
        values = []
        start = 0
        for _ in range(self.world_size):
            end = start + 8 + int.from_bytes(joined[start : start + 8], "little")
            values.append(pickle.loads(joined[start + 8 : end]))  # noqa: S301 - ranks of one job
            start = end
        return values

    def broadcast_object(self, value: Any, *, root: int = 0, name: str) -> Any:
        import torch

        if self.world_size == 1:
            return value
        payload = pickle.dumps(value, protocol=5) if self.rank == root else b""
        size = torch.tensor([len(payload)], dtype=torch.int64)
        self.broadcast_(size, root=root, name=f"{name}.size")
        data = (
            _as_tensor(payload) if self.rank == root else torch.empty(int(size), dtype=torch.uint8)
        )
        self.broadcast_(data, root=root, name=name)
        if self.rank == root:
            return value
        return pickle.loads(bytes(data.numpy()))  # noqa: S301 - ranks of one job

    def barrier(self, *, name: str) -> None:
        import torch

        self.allgather(torch.zeros(1, dtype=torch.uint8), name=name)


def _as_tensor(data: bytes) -> torch.Tensor:
    import torch

    # A bytearray is writable: torch warns about tensors over read-only memory.
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def row_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """Return (n, bytes of one row) uint8 over the same rows: any dtype travels, bit for bit."""
    rows = tensor.detach().contiguous()
    size = rows.element_size()
    for dim in rows.shape[1:]:
        size *= dim
    return flat_bytes(rows).reshape(rows.shape[0], size)


def flat_bytes(contiguous: torch.Tensor) -> torch.Tensor:
    """Return the (bytes,) uint8 view of contiguous memory.

    Torch calls a single row contiguous whatever its strides are; `view` to bytes asks for stride 1.
    """
    import torch

    flat = contiguous.reshape(-1)
    return flat.as_strided(flat.shape, (1,)).view(torch.uint8)


def rows_from_bytes(data: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return (m, ...) of `like`'s dtype and row shape from (m, bytes of one row)."""
    return data.reshape(-1).view(like.dtype).reshape(data.shape[0], *like.shape[1:])


def summable(tensor: torch.Tensor, *, average: bool, name: str) -> None:
    """Raise UsageError for a reduction whose result would be silently wrong."""
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
        return
    kind = str(tensor.dtype).removeprefix("torch.")
    if average or kind == "bool":
        wanted = "mean" if average else "sum"
        raise UsageError(f"{wanted} of {kind} over ranks ({name})", hint="reduce it as float64")


def reals(tensor: torch.Tensor) -> torch.Tensor:
    """Return `tensor`'s memory outside autograd, complex numbers as pairs of reals."""
    import torch

    bare = tensor.detach()
    return torch.view_as_real(bare) if bare.dtype.is_complex else bare


def staged(tensor: torch.Tensor, widened: Mapping[str, str]) -> torch.Tensor:
    """Return contiguous memory that the engine can sum: `tensor` itself where it fits, or a copy.

    dtypes named in `widened` are summed in the wider one.
    """
    import torch

    flat = tensor.contiguous()
    wider = widened.get(str(flat.dtype).removeprefix("torch."))
    return flat.to(getattr(torch, wider)) if wider else flat


def left(name: str, cause: BaseException) -> EngineError:
    """Return the error of a collective that could not finish."""
    detail = str(cause).strip().partition("\n")[0].partition(". ")[0] or type(cause).__name__
    return EngineError(
        f"{name!r} could not finish: {detail}", hint="where a rank left, its log says why"
    )
