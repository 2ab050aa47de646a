"""The probe: does f(x)[rows] equal f(x[rows])?  Asked once per module and kind of call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nbaas.parallel import trees
from nbaas.parallel.rows import Rows
from nbaas.parallel.sharded import PartialTensor, ShardedTensor
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
    """How each tensor in a module's output follows from the local outputs."""

    leaves: tuple[LeafPlan, ...]
    row_dim: int = 0
    draws: tuple[Any, ...] = ()  # see nbaas.parallel.draws

    def wrap(self, result: Any, rows: Rows) -> Any:
        """Return the local output with the meaning of its rows."""
        if isinstance(result, torch.Tensor):
            return _wrapped(result, self.leaves[0], rows)
        plans = iter(self.leaves)
        return trees.map_tensors(lambda leaf: _wrapped(leaf, next(plans), rows), result)


def _wrapped(leaf: torch.Tensor, plan: LeafPlan, rows: Rows) -> torch.Tensor:
    if plan.kind == "rows":
        return ShardedTensor(leaf, rows if plan.factor == 1 else rows.times(plan.factor), plan.dim)
    if plan.kind == SAME:
        return leaf
    if not rows.valid:
        leaf = torch.nan_to_num(leaf) * 0
    if plan.kind == SUM:
        return PartialTensor(leaf * len(rows.counts))
    return PartialTensor(leaf if rows.even else leaf * rows.weight)


def compare_outputs(
    full: Any, local: Any, rows: Rows, world: World
) -> tuple[OutputPlan | None, str]:
    """Return the plan all ranks agree on, or None and why there is none."""
    whole, parts = trees.tensors(full), trees.tensors(local)
    if len(whole) != len(parts):
        mine: list[list[LeafPlan]] | None = None
    else:
        scalars = [
            world.gather_objects((float(b), rows.valid)) if _is_scalar(a, b) else None
            for a, b in zip(whole, parts, strict=True)
        ]
        mine = [
            _candidates(a, b, rows, every)
            for a, b, every in zip(whole, parts, scalars, strict=True)
        ]
    return _agreed(world.gather_objects(mine))


def _agreed(all_candidates: list[Any]) -> tuple[OutputPlan | None, str]:
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
    return OutputPlan(tuple(plans)), ""


def _is_scalar(whole: torch.Tensor, part: torch.Tensor) -> bool:
    return whole.dim() == part.dim() == 0 and whole.is_floating_point()


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
        if _near(float(whole), total / rows.total, whole.dtype):
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


def matches_alone(full: Any, alone: Any, plan: OutputPlan, row: int) -> bool:
    """Tell whether the outputs with rows of a call on one row equal that row of the whole output."""
    pairs = zip(trees.tensors(full), trees.tensors(alone), plan.leaves, strict=True)
    return all(
        part.dim() == whole.dim()
        and _close(whole.narrow(leaf.dim, row * leaf.factor, leaf.factor), part)
        for whole, part, leaf in pairs
        if leaf.kind == "rows"
    )


@contextlib.contextmanager
def restored(module: nn.Module) -> Iterator[None]:
    """Undo what a trial call does to buffers and attributes of the module and its parts."""
    parts = list(module.modules())
    attributes = [dict(vars(part)) for part in parts]
    buffers = [
        {k: (v, None if v is None else v.clone()) for k, v in part._buffers.items()}
        for part in parts
    ]
    # Keras keeps moving averages in parameters that are not trained.
    frozen = [(p, p.detach().clone()) for p in module.parameters() if not p.requires_grad]
    rng = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        for part, attribute, kept in zip(parts, attributes, buffers, strict=True):
            vars(part).clear()
            vars(part).update(attribute)
            part._buffers.clear()
            part._buffers.update({name: buffer for name, (buffer, _) in kept.items()})
            with torch.no_grad():
                for buffer, value in kept.values():
                    if buffer is not None and value is not None:
                        buffer.copy_(value)
        with torch.no_grad():
            for parameter, value in frozen:
                if parameter.shape == value.shape:
                    parameter.copy_(value)
        torch.set_rng_state(rng)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


_RANDOM = (
    "rand",
    "normal",
    "bernoulli",
    "dropout",
    "multinomial",
    "uniform",
    "exponential",
    "poisson",
)


class _Still(TorchDispatchMode):
    """Makes every random draw a constant, so that two calls can be compared."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if not any(word in name for word in _RANDOM):
            return func(*args, **kwargs)
        if "native_dropout" in name:
            return args[0].clone(), torch.ones_like(args[0], dtype=torch.bool)
        if name == "dropout":
            return args[0].clone()
        state = torch.get_rng_state()
        result = func(*args, **kwargs)
        torch.set_rng_state(state)
        for leaf in trees.tensors(result if not isinstance(result, torch.Tensor) else [result]):
            leaf.fill_(1)
        return result


def quiet_randomness() -> contextlib.AbstractContextManager[Any]:
    return _Still()
