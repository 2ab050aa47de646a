"""One rank alone: every collective is the identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nbaas.engines.base import START_TIMEOUT, Engine, Handle, Rendezvous, summable
from nbaas.errors import UsageError
from nbaas.records import Slot

if TYPE_CHECKING:
    import torch


class SerialEngine:
    name = "serial"
    rank = 0
    world_size = 1

    def allreduce_async_(self, tensor: torch.Tensor, *, name: str, average: bool = True) -> Handle:
        summable(tensor, average=average, name=name)

    def wait(self, handle: Handle) -> None:
        pass

    def allgather(self, tensor: torch.Tensor, *, name: str) -> torch.Tensor:  # noqa: ARG002
        rows = tensor.detach().clone()
        return rows.reshape(1) if rows.dim() == 0 else rows

    def broadcast_(self, tensor: torch.Tensor, *, root: int = 0, name: str) -> None:
        pass

    def allgather_object(self, value: Any, *, name: str) -> list[Any]:  # noqa: ARG002
        return [value]

    def broadcast_object(self, value: Any, *, root: int = 0, name: str) -> Any:  # noqa: ARG002
        return value

    def barrier(self, *, name: str) -> None:
        pass

    def shutdown(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class NoRendezvous:
    address = ""
    token = ""
    interfaces: Mapping[str, str] = field(default_factory=dict)

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class SerialFactory:
    name = "serial"

    def check(self, slots: Sequence[Slot] = ()) -> None:
        if len(slots) > 1:
            raise UsageError(
                f"--engine serial runs one rank, {len(slots)} asked for",
                hint="--engine horovod or ddp",
            )

    def rendezvous(self, directory: Path, slots: Sequence[Slot]) -> Rendezvous:  # noqa: ARG002
        self.check(slots)
        return NoRendezvous()

    def environment(
        self,
        slots: Sequence[Slot],
        rendezvous: Rendezvous,  # noqa: ARG002
    ) -> list[dict[str, str]]:
        return [{} for _ in slots]

    def start(self, slot: Slot, *, timeout: float = START_TIMEOUT) -> Engine:  # noqa: ARG002
        if slot.world_size != 1:
            raise UsageError(f"--engine serial runs one rank, {slot.world_size} asked for")
        return SerialEngine()
