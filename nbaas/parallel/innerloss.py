"""Cross entropy inside a split model: its mean divides by what is counted on all ranks.

A model that computes its own loss (GPT style) ignores padding tokens, of which ranks hold unequally
many.  The value is scaled so that the mean over ranks, weighted by rows, is the loss of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nbaas.parallel.world import World

Loss = Callable[..., torch.Tensor]


def make_counting_loss(world: World, original: Loss) -> Loss:
    """Return the stand-in for `F.cross_entropy` or `F.nll_loss` in a rank."""

    def counting_loss(
        input: torch.Tensor,  # noqa: A002 - torch's own name, given by keyword too
        target: torch.Tensor,
        weight: torch.Tensor | None = None,
        size_average: Any = None,
        ignore_index: int = -100,
        reduce: Any = None,
        reduction: str = "mean",
        **more: Any,
    ) -> torch.Tensor:
        rows = world.rows
        plain = size_average is None and reduce is None
        if rows is None or reduction != "mean" or not plain or target.is_floating_point():
            return original(
                input, target, weight, size_average, ignore_index, reduce, reduction, **more
            )
        total = original(input, target, weight, None, ignore_index, None, "sum", **more)
        kept = target[target != ignore_index]
        mine = weight[kept].sum() if weight is not None else torch.tensor(float(kept.numel()))
        mine = mine.detach().to(total.device, torch.float64) * bool(rows.valid)
        everyone = world.mean(mine) * world.size
        if not rows.valid:
            return total * 0
        return total * (world.size / (everyone * rows.weight)).to(total.dtype)

    # torch hands the function found under its own name to __torch_function__; rules go by name.
    counting_loss.__name__ = original.__name__
    return counting_loss


def install(world: World) -> Callable[[], None]:
    """Replace the losses in this process; return what puts the originals back."""
    originals = nn.functional.cross_entropy, nn.functional.nll_loss
    nn.functional.cross_entropy = make_counting_loss(world, originals[0])
    nn.functional.nll_loss = make_counting_loss(world, originals[1])

    def uninstall() -> None:
        nn.functional.cross_entropy, nn.functional.nll_loss = originals

    return uninstall
