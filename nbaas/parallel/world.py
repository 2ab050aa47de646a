"""The ranks as the semantic layer sees them: one engine, and collectives that autograd understands.

Convention: a rank's gradient of a value is world_size times the derivative of the global loss with
respect to *its copy* of the value, so that the mean over ranks is the true gradient.  A loss that
all ranks compute alike then needs no care, averaging twice changes nothing, and a gradient that was
already averaged may be added to before it is averaged again.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch

from nbaas.engines.base import Engine
from nbaas.errors import SemanticsError
from nbaas.parallel.board import Board
from nbaas.parallel.halt import Halt
from nbaas.parallel.rows import Rows


class World:
    """One rank's view of all ranks, and what the semantic layer has noted on the way."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.rank = engine.rank
        self.size = engine.world_size
        self.thread = threading.get_ident()
        self.depth = 0  # > 0 inside a module's call: plain tensors, local rows
        self.rows: Rows | None = None  # of the call in progress: what batch norm averages over
        self.last_rows: Rows | None = None  # of the last split call: what backward recomputes
        self.trying: Any = None  # the prober, while it runs a module
        self.recomputing = False  # within backward: modules may be called again
        self.collectives = 0
        self.board: Board | None = None
        self.halt = Halt(None, self.rank, self.size)
        self.gathered: Counter[str] = Counter()  # operation -> times it gathered
        self.notes: dict[str, str] = {}  # what ran replicated, and why

    def name(self, what: str, *details: object) -> str:
        """Return the name of the next collective: the same at each step, as engines remember names."""
        if threading.get_ident() != self.thread and not self.depth:
            raise SemanticsError(
                "a sharded value was read in a background thread, where ranks would not meet",
                hint="read it, for example by .item(), before handing it over",
            )
        self.halt.begin()
        self.collectives += 1
        name = ".".join([what, *map(str, details)])
        if self.board is not None:
            self.board.post(self.collectives, name)
        return name

    def mean(self, local: torch.Tensor) -> torch.Tensor:
        """Return the mean of `local` over ranks, detached; integers by exact division of the sum."""
        total = local.detach().clone(memory_format=torch.contiguous_format)
        kind = total.dtype
        if kind in (torch.bfloat16, torch.float16):
            total = total.float()
        elif not kind.is_floating_point:
            total = total.long()
        floating = total.dtype.is_floating_point
        shape = total.shape
        total = total.reshape(-1)
        self.engine.wait(
            self.engine.allreduce_async_(
                total, name=self.name("mean", total.dtype, total.numel()), average=floating
            )
        )
        if not floating:
            total = torch.div(total, self.size, rounding_mode="floor")
        return total.reshape(shape).to(kind)

    def gather(self, local: torch.Tensor, rows: Rows, dim: int) -> torch.Tensor:
        """Return the global tensor of which each rank holds its valid rows along `dim`, detached."""
        kind = local.dtype
        part = local.detach().narrow(dim, 0, rows.valid).movedim(dim, 0).contiguous()
        if not part.numel():
            part = part.new_empty(part.shape)  # an empty view keeps strides that are not contiguous
        wire = {
            torch.bool: torch.int32,
            torch.bfloat16: torch.float32,
            torch.uint8: torch.int32,
            torch.int8: torch.int32,
            torch.int16: torch.int32,
        }.get(kind, kind)
        full = self.engine.allgather(part.to(wire), name=self.name("gather", wire, part.dim()))
        return full.to(kind).movedim(0, dim)

    def gather_objects(self, value: Any) -> list[Any]:
        """Return every rank's `value`, by rank."""
        return self.engine.allgather_object(value, name=self.name("objects"))

    def broadcast_object(self, value: Any) -> Any:
        return self.engine.broadcast_object(value, name=self.name("object"))

    @contextlib.contextmanager
    def inside(self, rows: Rows | None) -> Iterator[None]:
        """What runs now is a part of a model: on this rank's `rows`, or on the whole batch."""
        before = self.depth, self.rows
        self.depth, self.rows = self.depth + 1, rows
        try:
            yield
        finally:
            self.depth, self.rows = before

    def all_agree(self, *, verdict: bool) -> bool:
        return all(self.gather_objects(bool(verdict)))


_active: World | None = None


def active() -> World | None:
    return _active


def world() -> World:
    """Return the world in force; only called where a sharded value exists, hence a world."""
    if _active is None:
        raise RuntimeError("no world is active in this process")
    return _active


def set_active(value: World | None) -> None:
    global _active  # noqa: PLW0603 - a process is in one world
    _active = value


class GatherRows(torch.autograd.Function):
    """Sharded to replicated; every rank computes the rest alike, so no message flows backward."""

    @staticmethod
    def forward(ctx: Any, local: torch.Tensor, rows: Rows, dim: int) -> torch.Tensor:
        ctx.rows, ctx.dim, ctx.length = rows, dim, local.shape[dim]
        return world().gather(local, rows, dim)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        rows, dim = ctx.rows, ctx.dim
        mine = grad.narrow(dim, rows.offset, rows.valid) * world().size
        if ctx.length > rows.valid:
            shape = list(mine.shape)
            shape[dim] = ctx.length - rows.valid
            mine = torch.cat([mine, mine.new_zeros(shape)], dim)
        return mine, None, None


class MeanOverRanks(torch.autograd.Function):
    """Partial to replicated: the mean over ranks; its derivative reaches each rank's part as is."""

    @staticmethod
    def forward(ctx: Any, local: torch.Tensor) -> torch.Tensor:
        return world().mean(local)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


class EnterShard(torch.autograd.Function):
    """Replicated to sharded: the same value; the ranks' gradients of it are averaged.

    Megatron-LM's operator f (Shoeybi et al., arXiv:1909.08053, section 3).
    """

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return average(grad)


class AverageGradient(torch.autograd.Function):
    """The mean over ranks of a gradient, differentiable again (gradient penalties)."""

    @staticmethod
    def forward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return world().mean(grad)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return average(grad)


def average(grad: torch.Tensor) -> torch.Tensor:
    """Return the mean of `grad` over ranks, recorded by autograd where that is on."""
    if torch.is_grad_enabled() and grad.requires_grad:
        return AverageGradient.apply(grad)
    return world().mean(grad)


def entering(value: torch.Tensor) -> torch.Tensor:
    """Return a replicated tensor as an operand of a sharded operation."""
    if value.requires_grad and torch.is_grad_enabled():
        return EnterShard.apply(value)
    return value
