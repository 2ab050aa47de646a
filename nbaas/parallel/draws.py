"""Random draws inside a split model that come out as on one device: drawn for all rows, cut to ours.

The probe notes the shape of each draw for the whole batch and for this rank's rows; from then on a
draw whose shape follows the rows is made for all rows, from the generator that all ranks share, and
this rank's rows are used.  So dropout masks and sampled noise are those of one device, at the cost of
drawing for the whole batch.  Draws that torch makes out of sight (attention and RNN dropout in C++)
come from a stream of each rank's own, and then all draws of the call do; see `randomness`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nbaas.parallel.randomness import Randomness
from nbaas.parallel.rows import Rows
from nbaas.parallel.sharded import GlobalTensor
from nbaas.parallel.world import World

Shape = tuple[int, ...]
Draw = Callable[[Shape], torch.Tensor]


@dataclass(frozen=True, slots=True)
class PlannedDraw:
    """One draw of a call: the dimension that follows the rows (None: none does), and its shape."""

    dim: int | None
    shape: Shape  # for the whole batch of the probe

    def fits(self, shape: Shape) -> bool:
        """Tell whether a draw of this shape may be this one: all but the rows are equal."""
        same = [a == b for a, b in zip(self.shape, shape, strict=False)]
        if self.dim is not None and self.dim < len(same):
            same[self.dim] = True
        return len(self.shape) == len(shape) and all(same)


def plan_draws(full: list[Shape], local: list[Shape], rows: Rows) -> tuple[PlannedDraw, ...] | None:
    """Return how each draw follows the rows, or None where draws do not."""
    if len(full) != len(local):
        return None
    held = max(1, rows.valid)
    plan = []
    for whole, part in zip(full, local, strict=True):
        other = [d for d in range(len(whole)) if len(whole) == len(part) and whole[d] != part[d]]
        if whole == part:
            plan.append(PlannedDraw(None, whole))
        elif len(other) == 1 and whole[other[0]] * held == part[other[0]] * rows.total:
            plan.append(PlannedDraw(other[0], whole))
        else:
            return None
    return tuple(plan)


class Draws:
    """Stands in for torch's drawing functions in a rank."""

    def __init__(self, world: World, randomness: Randomness) -> None:
        self.world = world
        self.randomness = randomness
        self.log: list[Shape] | None = None  # the shapes drawn, while the probe runs
        self.plan: tuple[PlannedDraw, ...] = ()  # of the call in progress
        self.index = 0
        self.busy = False  # within a draw of ours, whose own calls must reach torch

    def begin(self, plan: tuple[PlannedDraw, ...]) -> None:
        """Start a split call whose draws follow `plan`."""
        self.plan, self.index = plan, 0

    def active(self, *tensors: Any) -> bool:
        """Tell whether a draw now belongs to a split call or its probe, on plain tensors."""
        if self.busy or any(isinstance(tensor, GlobalTensor) for tensor in tensors):
            return False
        planned = self.world.rows is not None and bool(self.plan) and not self.randomness.draws
        return self.log is not None or planned

    def draw(self, shape: Shape, make: Draw) -> torch.Tensor:
        """Return `make(shape)` as one device would have drawn it for these rows."""
        shape = tuple(int(size) for size in shape)
        self.busy = True
        try:
            if self.log is None:
                return self._planned(shape, make)
            self.log.append(shape)
            return make(shape)
        finally:
            self.busy = False

    def _planned(self, shape: Shape, make: Draw) -> torch.Tensor:
        rows, planned = self.world.rows, self._next(shape)
        if rows is None or planned is None:
            return make(shape)  # seen as out of sight when the call ends
        dim = planned.dim
        if dim is None:
            return self.randomness.in_step(lambda: make(shape))
        factor, rest = divmod(shape[dim], max(1, rows.valid))
        if rest:
            return make(shape)
        whole = (*shape[:dim], rows.total * factor, *shape[dim + 1 :])
        full = self.randomness.in_step(lambda: make(whole))
        if not rows.valid:
            return full.narrow(dim, 0, factor)
        return full.narrow(dim, rows.offset * factor, rows.valid * factor)

    def _next(self, shape: Shape) -> PlannedDraw | None:
        if self.index < len(self.plan):
            self.index += 1
            return self.plan[self.index - 1]
        # A part of the call is computed again in backward, from the generator's state of then.
        return next((planned for planned in self.plan if planned.fits(shape)), None)

    # ---- the stand-ins -------------------------------------------------------------------------

    def install(self) -> Callable[[], None]:
        """Replace the drawing functions of torch; return what puts the originals back."""
        functional = nn.functional
        pairs: list[tuple[Any, str, Any]] = [
            (functional, "dropout", self._dropout(functional.dropout, _same)),
            (functional, "dropout1d", self._dropout(functional.dropout1d, _channels)),
            (functional, "dropout2d", self._dropout(functional.dropout2d, _channels)),
            (functional, "dropout3d", self._dropout(functional.dropout3d, _channels)),
            (torch, "normal", self._normal(torch.normal)),
        ]
        pairs += [
            (torch, name, self._like(getattr(torch, name))) for name in ("rand_like", "randn_like")
        ]
        pairs += [(torch, name, self._sized(getattr(torch, name))) for name in ("rand", "randn")]
        pairs += [
            (torch.Tensor, name, self._fill(getattr(torch.Tensor, name)))
            for name in ("normal_", "uniform_", "exponential_")
        ]
        originals = [(home, name, getattr(home, name)) for home, name, _ in pairs]
        for home, name, stand_in in pairs:
            setattr(home, name, stand_in)

        def undo() -> None:
            for home, name, original in originals:
                setattr(home, name, original)

        return undo

    def _dropout(self, original: Any, noise_shape: Callable[[torch.Tensor], Shape]) -> Any:
        def dropout(
            input: torch.Tensor,  # noqa: A002 - torch's own name
            p: float = 0.5,
            training: bool = True,  # noqa: FBT001, FBT002
            inplace: bool = False,  # noqa: FBT001, FBT002
        ) -> torch.Tensor:
            if not training or not 0.0 < p < 1.0 or not self.active(input):
                return original(input, p, training, inplace)
            kind, device = input.dtype, input.device

            def make(shape: Shape) -> torch.Tensor:
                return torch.empty(shape, dtype=kind, device=device).bernoulli_(1 - p).div_(1 - p)

            noise = self.draw(noise_shape(input), make)
            return input.mul_(noise) if inplace else input * noise

        return dropout

    def _like(self, original: Any) -> Any:
        def like(input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:  # noqa: A002
            if args or not self.active(input):
                return original(input, *args, **kwargs)

            def make(shape: Shape) -> torch.Tensor:
                empty = torch.empty(shape, dtype=input.dtype, device=input.device)
                drawn: torch.Tensor = original(empty, **kwargs)
                return drawn

            return self.draw(tuple(input.shape), make)

        return like

    def _sized(self, original: Any) -> Any:
        def sized(*size: Any, **kwargs: Any) -> torch.Tensor:
            given = size[0] if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
            if not self.active() or "size" in kwargs or "out" in kwargs or "generator" in kwargs:
                return original(*size, **kwargs)
            return self.draw(tuple(given), lambda shape: original(*shape, **kwargs))

        return sized

    def _normal(self, original: Any) -> Any:
        def normal(mean: Any = 0.0, std: Any = 1.0, *args: Any, **kwargs: Any) -> torch.Tensor:
            tensors = isinstance(mean, torch.Tensor) and isinstance(std, torch.Tensor)
            if (
                not tensors
                or args
                or kwargs
                or mean.shape != std.shape
                or not self.active(mean, std)
            ):
                return original(mean, std, *args, **kwargs)

            def make(shape: Shape) -> torch.Tensor:
                return torch.empty(shape, dtype=mean.dtype, device=mean.device).normal_()

            return self.draw(tuple(mean.shape), make) * std + mean

        return normal

    def _fill(self, original: Any) -> Any:
        def fill(target: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            if kwargs.get("generator") is not None or not self.active(target):
                return original(target, *args, **kwargs)

            def make(shape: Shape) -> torch.Tensor:
                return original(target.new_empty(shape), *args, **kwargs)

            with torch.no_grad():
                return target.copy_(self.draw(tuple(target.shape), make))

        return fill


def _same(tensor: torch.Tensor) -> Shape:
    return tuple(tensor.shape)


def _channels(tensor: torch.Tensor) -> Shape:
    """Return (B, C, 1, ...): one draw for each channel of each sample."""
    return (*tensor.shape[:2], *([1] * (tensor.dim() - 2)))
