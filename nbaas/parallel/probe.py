"""The probe: does f(x)[rows] equal f(x[rows])?  Asked once per module and kind of call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nbaas.errors import SemanticsError
from nbaas.parallel import trees
from nbaas.parallel.keepsakes import Slot
from nbaas.parallel.rows import Rows
from nbaas.parallel.sharded import PartialTensor, ShardedTensor
from nbaas.parallel.trial import DIVIDES, SIZES, Trial
from nbaas.parallel.world import World

SAME, MEAN, SUM = "same", "mean", "sum"  # how an output without rows follows from the local ones


@dataclass(frozen=True, slots=True)
class LeafPlan:
    """One output: rows along `dim`, `factor` of them for each row of the batch; or a `kind`."""

    kind: str  # rows | same | mean | sum
    dim: int = 0
    factor: int = 1


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """How each tensor in a module's output, and in its attributes, follows from the local ones."""

    leaves: tuple[LeafPlan, ...]
    row_dim: int = 0
    draws: tuple[Any, ...] = ()  # see nbaas.parallel.draws
    kept: tuple[tuple[Slot, int], ...] = ()  # attributes set by a call, and how many tensors each
    kept_leaves: tuple[LeafPlan, ...] = ()
    careful: bool = False  # sizes or branches may follow values: ranks agree on each call

    def wrap(self, result: Any, rows: Rows) -> Any:
        """Return the local output with the meaning of its rows.

        Raises: SemanticsError: its size is another than in the first call.
        """
        if isinstance(result, torch.Tensor) and len(self.leaves) == 1:
            return _wrapped(result, self.leaves[0], rows)
        if len(trees.tensors(result)) != len(self.leaves):
            raise SemanticsError(
                f"a model gave {len(self.leaves)} tensors in its first call and "
                f"{len(trees.tensors(result))} in this one",
                hint="--ranks 1, or call the two ways of the model as two modules",
            )
        plans = iter(self.leaves)
        return trees.map_tensors(lambda leaf: _wrapped(leaf, next(plans), rows), result)

    def wrap_kept(self, new: Sequence[torch.Tensor], rows: Rows) -> list[Any]:
        """Return what a call kept in attributes with the meaning of its rows."""
        if len(new) != len(self.kept_leaves):
            names = ", ".join(sorted({name for (_, name), _ in self.kept})) or "an attribute"
            raise SemanticsError(
                f"a model kept {len(new)} tensors of a batch in its attributes ({names}), "
                f"{len(self.kept_leaves)} in the first call",
                hint="--ranks 1, or return them from forward",
            )
        return [_wrapped(t, plan, rows) for t, plan in zip(new, self.kept_leaves, strict=True)]

    def signature(self, result: Any, rows: Rows) -> tuple[Any, ...]:
        """Return what must be equal on all ranks after a careful call: sizes, and that rows fit."""
        found = []
        for leaf, plan in zip(trees.tensors(result), self.leaves, strict=False):
            shape = list(leaf.shape)
            fits = plan.kind != "rows" or (
                plan.dim < len(shape) and shape.pop(plan.dim) == max(1, rows.valid) * plan.factor
            )
            found.append((fits, tuple(shape)))
        return (len(found) == len(self.leaves), *found)


def _wrapped(leaf: torch.Tensor, plan: LeafPlan, rows: Rows) -> torch.Tensor:
    if plan.kind == "rows":
        held = (rows.valid or 1) * plan.factor
        if leaf.dim() <= plan.dim or leaf.shape[plan.dim] != held:
            raise SemanticsError(
                f"a model gave {tuple(leaf.shape)} for {rows.valid} rows, where its first call "
                f"gave {plan.factor} along dimension {plan.dim} for each row",
                hint="--ranks 1: the size of its output follows from values of the batch",
            )
        return ShardedTensor(leaf, rows if plan.factor == 1 else rows.times(plan.factor), plan.dim)
    if plan.kind == SAME:
        return leaf
    if not rows.valid:
        leaf = torch.nan_to_num(leaf) * 0
    if plan.kind == SUM:
        return PartialTensor(leaf * len(rows.counts))
    return PartialTensor(leaf if rows.even else leaf * rows.weight)


def compare_outputs(full: Trial, local: Trial, rows: Rows, world: World) -> tuple[Any, str]:
    """Return the plans of all tensors that all ranks agree on, or None and why there are none."""
    whole, parts = full.tensors, local.tensors
    if len(whole) != len(parts):
        mine: list[list[LeafPlan]] | None = None
    else:
        scalars = [
            world.gather_objects((b.item(), rows.valid)) if _is_scalar(a, b) else None
            for a, b in zip(whole, parts, strict=True)
        ]
        sums_hold = not full.found & {DIVIDES, SIZES}
        mine = [
            _trusted(_candidates(a, b, rows, every), tainted=tainted, sums_hold=sums_hold)
            for a, b, every, tainted in zip(whole, parts, scalars, full.tainted, strict=True)
        ]
    return _agreed(world.gather_objects(mine))


def _trusted(found: list[LeafPlan], *, tainted: bool, sums_hold: bool) -> list[LeafPlan]:
    """Return the plans that later batches cannot belie.

    A value made of the batch is not one that parts share, though they may once; a mean of masked
    terms is weighted by rows only while all rows have as many; 0 is both a sum and a mean.
    """
    if tainted:
        found = [plan for plan in found if plan.kind != SAME]
    kinds = {plan.kind for plan in found}
    if not sums_hold or {MEAN, SUM} <= kinds:
        found = [plan for plan in found if plan.kind not in (MEAN, SUM)]
    return found


def same_state(full: Trial, local: Trial) -> str:
    """Return '' where a part of the batch leaves the module as the whole does, else what differs."""
    if full.numbers != local.numbers:
        names = {name for (_, name), _ in full.numbers.items() ^ local.numbers.items()}
        return f"its attribute {', '.join(sorted(names))} follows the batch"
    if [(s, len(t)) for s, t in full.kept.items()] != [(s, len(t)) for s, t in local.kept.items()]:
        return "it keeps other tensors in its attributes for a part of the batch"
    if trees.numbers(full.outputs) != trees.numbers(local.outputs):
        return "it returns a number that follows the batch"
    for name in {**full.state, **local.state}:
        mine, theirs = full.state.get(name), local.state.get(name)
        if mine is None or theirs is None or not _close(mine, theirs):
            return f"a call changes its {name}, which follows the batch"
    return ""


def _agreed(all_candidates: list[Any]) -> tuple[tuple[LeafPlan, ...] | None, str]:
    if any(candidates is None for candidates in all_candidates):
        return None, "its output has another structure for a part of the batch"
    plans = []
    for index, options in enumerate(zip(*all_candidates, strict=True)):
        common = [plan for plan in options[0] if all(plan in other for other in options[1:])]
        if not common:
            return (
                None,
                f"output {index} of a part of the batch differs from that part of the output",
            )
        plans.append(common[0])
    return tuple(plans), ""


def _is_scalar(whole: torch.Tensor, part: torch.Tensor) -> bool:
    return whole.dim() == part.dim() == 0 and not whole.is_complex()


def _candidates(
    whole: torch.Tensor, part: torch.Tensor, rows: Rows, scalars: Any
) -> list[LeafPlan]:
    found = []
    if whole.dim() == part.dim():
        found += [
            LeafPlan("rows", dim, factor)
            for dim in range(whole.dim())
            if (factor := _row_factor(whole, part, rows, dim))
            and _close(
                whole.narrow(dim, rows.offset * factor, rows.valid * factor),
                part.narrow(dim, 0, rows.valid * factor),
            )
        ]
    if whole.shape == part.shape and _close(whole, part):
        found.append(LeafPlan(SAME))
    if scalars is not None:
        total = sum(value * valid for value, valid in scalars if valid)
        if whole.is_floating_point() and _near(float(whole), total / rows.total, whole.dtype):
            found.append(LeafPlan(MEAN))
        if _near(float(whole), sum(value for value, valid in scalars if valid), whole.dtype):
            found.append(LeafPlan(SUM))
    return found


def _row_factor(whole: torch.Tensor, part: torch.Tensor, rows: Rows, dim: int) -> int:
    """Return how many entries along `dim` belong to one row, 0 where the sizes do not follow rows."""
    factor, rest = divmod(whole.shape[dim], rows.total)
    if rest or not factor:
        return 0
    other = (
        whole.shape[:dim] == part.shape[:dim] and whole.shape[dim + 1 :] == part.shape[dim + 1 :]
    )
    held = max(1, rows.valid) * factor
    return factor if other and part.shape[dim] == held else 0


def _close(whole: torch.Tensor, part: torch.Tensor) -> bool:
    if whole.shape != part.shape or whole.dtype != part.dtype:
        return False
    if not whole.numel():
        return True
    if not (whole.is_floating_point() or whole.is_complex()):
        return bool((whole == part).all())
    coarse = whole.dtype in (torch.float16, torch.bfloat16)
    exact = whole.dtype == torch.float64
    scale = float(whole.abs().nan_to_num().max())
    tolerance = (2e-2 if coarse else 1e-8 if exact else 1e-4) * scale + (1e-12 if exact else 1e-6)
    return bool(torch.allclose(whole.float() if coarse else whole, part.float() if coarse else part,
                               rtol=0, atol=tolerance, equal_nan=True))  # fmt: skip


def _near(a: float, b: float, dtype: torch.dtype) -> bool:
    """Tell whether two losses are one; a mean over other weights is off by little on new models."""
    tolerance = {torch.float64: 1e-10, torch.float32: 2e-6}.get(dtype, 2e-2)
    return abs(a - b) <= tolerance * max(abs(a), abs(b), 1e-3)


def matches_alone(full: Any, alone: Any, leaves: Sequence[LeafPlan], row: int) -> bool:
    """Tell whether the outputs with rows of a call on one row equal that row of the whole output."""
    pairs = zip(trees.tensors(full), trees.tensors(alone), leaves, strict=True)
    return all(
        part.dim() == whole.dim()
        and _close(whole.narrow(leaf.dim, row * leaf.factor, leaf.factor), part)
        for whole, part, leaf in pairs
        if leaf.kind == "rows"
    )
