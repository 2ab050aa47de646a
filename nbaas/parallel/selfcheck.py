"""The first step proves itself: its distributed gradient against one computed from the whole batch.

The module is run once more on the gathered batch, on every rank, and the gradient that reached its
outputs is sent back through it; what arrives at the parameters must be what the ranks averaged.
Skipped, and said so, where a run cannot be repeated: several calls in one backward pass, random
draws inside the model, gradients that were there before.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nbaas.errors import SemanticsError
from nbaas.parallel import trees
from nbaas.parallel.probe import OutputPlan
from nbaas.parallel.rows import Rows
from nbaas.parallel.sharded import GlobalTensor, ShardedTensor, my_rows
from nbaas.parallel.trial import restored
from nbaas.parallel.world import World

TOLERANCE = (
    1e-2  # of the largest gradient; rounding stays below 1e-5, wrong semantics are of order 1
)
ROUNDING = 1e-4
COARSE_TOLERANCE = 0.2  # bfloat16 and float16


@dataclass(slots=True)
class Call:
    """A call on this rank's rows, as it was made, and what came back to its outputs."""

    module: nn.Module
    args: Any
    kwargs: Any
    outputs: list[torch.Tensor]  # local
    plan: OutputPlan
    rows: Rows
    rng: torch.Tensor  # the generator's state as the call began
    grads: list[torch.Tensor | None]  # local, by output
    averaged: dict[str, torch.Tensor]


class FirstStepCheck:
    """Follows the first backward pass; `verdict` says how it ended."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.calls: list[Call] = []
        self.done = world.size == 1
        self.ready = False
        self.verdict = "one rank: nothing to compare" if self.done else "no split call was trained"
        self.seconds = 0.0
        self.begin_draws: Callable[[Any], None] = lambda _: None  # set by the boundary

    def follow(
        self,
        module: nn.Module,
        arguments: tuple[Any, Any],
        local: Any,
        plan: OutputPlan,
        rows: Rows,
        rng: torch.Tensor,
    ) -> None:
        """Remember a call of the first pass and watch for the gradient of its outputs."""
        if self.done or self.ready or not torch.is_grad_enabled():
            return
        outputs = trees.tensors(local)
        call = Call(module, *arguments, outputs, plan, rows, rng, [None] * len(outputs), {})
        for index, output in enumerate(outputs):
            if output.requires_grad and output.is_floating_point():
                output.register_hook(_keeper(call, index))
        self.calls.append(call)

    def after_pass(self) -> None:
        """Keep the averaged gradients before user code clips or steps."""
        trained = [call for call in self.calls if any(g is not None for g in call.grads)]
        if self.done or self.ready or not trained:
            return
        self.ready = True
        self.calls = trained
        if len(trained) == 1:
            call = trained[0]
            call.averaged = {
                name: p.grad.detach().clone()
                for name, p in call.module.named_parameters()
                if p.grad is not None and not p.grad.is_sparse
            }

    def verify(self, *, draws: bool) -> bool:
        """Compare, once, and return whether that is behind us.

        Raises: SemanticsError naming the module where gradients differ.
        """
        if self.done or not self.ready:
            return self.done
        self.done = True
        calls, self.calls = self.calls, []
        if len(calls) != 1:
            self.verdict = f"not compared: {len(calls)} calls in the first backward pass"
        elif draws:
            self.verdict = "not compared: the model draws random numbers out of sight"
        elif any(plan.kind != "rows" for plan in calls[0].plan.leaves):
            self.verdict = "not compared: the model computes its own loss"
        elif calls[0].plan.kept:
            self.verdict = "not compared: the model keeps tensors of the batch in attributes"
        elif not calls[0].averaged:
            self.verdict = "not compared: no gradients were kept by the first backward pass"
        else:
            self._compare(calls[0])
        return True

    def _compare(self, call: Call) -> None:
        started = time.perf_counter()
        parameters = {n: p for n, p in call.module.named_parameters() if n in call.averaged}
        leaves = list(parameters.values())
        expected: tuple[Any, ...] = ()
        with contextlib.suppress(torch.OutOfMemoryError):
            expected = self._gradients(call, leaves, on_one_device=True)
        if not self.world.all_agree(verdict=bool(expected)):
            self.verdict = "not compared: the whole batch does not fit on one device"
            return
        tolerance = COARSE_TOLERANCE if _coarse(leaves) else TOLERANCE
        worst, where = _largest_error(call.averaged, dict(zip(parameters, expected, strict=True)))
        route = ""
        if not self.world.all_agree(
            verdict=worst <= (COARSE_TOLERANCE if _coarse(leaves) else ROUNDING)
        ):
            # A penalty on the parameters reaches them beside the module: compare that route alone.
            mine = self._gradients(call, leaves, on_one_device=False)
            again = [None if grad is None else self.world.mean(grad) for grad in mine]
            distributed = dict(zip(parameters, again, strict=True))
            worst, where = _largest_error(distributed, dict(zip(parameters, expected, strict=True)))
            route = "through the model "
        self.seconds = time.perf_counter() - started
        self.verdict = f"step 1 {route}equals one device: largest relative error {worst:.1e}"
        if not worst <= tolerance:
            kind = type(call.module).__name__
            self.verdict = f"step 1 differs from one device at {where} of {kind}: {worst:.1e}"
            raise SemanticsError(
                f"step 1 on {self.world.size} ranks differs from one device: "
                f"gradient of {where} in {kind} by {worst:.1e} of the largest",
                hint="run with --ranks 1, and report the model",
            )

    def _gradients(
        self, call: Call, parameters: list[nn.Parameter], *, on_one_device: bool
    ) -> tuple[Any, ...]:
        """Return the gradients of `parameters`: of the whole batch, or this rank's share of it."""
        seeds, args, kwargs = call.grads, call.args, call.kwargs
        with torch.no_grad():
            if on_one_device:
                seeds = [
                    None
                    if grad is None
                    else _whole_gradient(grad, plan.dim, plan.factor, call.rows)
                    for grad, plan in zip(call.grads, call.plan.leaves, strict=True)
                ]
            take = _whole if on_one_device else _part_of(call.rows)
            args, kwargs = trees.map_tensors(take, args), trees.map_tensors(take, kwargs)
        self.world.depth += 1
        self.world.rows = None if on_one_device else call.rows
        try:
            with restored(call.module), torch.enable_grad():
                torch.set_rng_state(call.rng)
                self.begin_draws(call.plan.draws)
                outputs = trees.tensors(nn.Module.__call__(call.module, *args, **kwargs))
                pairs = [
                    (o, seed) for o, seed in zip(outputs, seeds, strict=True) if seed is not None
                ]
                return torch.autograd.grad(
                    [o for o, _ in pairs], parameters, [s for _, s in pairs], allow_unused=True
                )
        finally:
            self.world.depth -= 1
            self.world.rows = None


def _coarse(parameters: list[nn.Parameter]) -> bool:
    halves = any(p.dtype in (torch.float16, torch.bfloat16) for p in parameters)
    return halves or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")


def _largest_error(found: dict[str, Any], expected: dict[str, Any]) -> tuple[float, str]:
    """Return the largest difference as a part of the largest gradient, and where it is."""
    known = {name: g for name, g in expected.items() if g is not None and g.numel()}
    scale = max((float(g.abs().max()) for g in known.values()), default=0.0) or 1.0
    worst, where = 0.0, ""
    for name, grad in known.items():
        error = float((found[name] - grad).abs().max()) / scale if found[name] is not None else 1.0
        if not error <= worst:
            worst, where = error, name
    return worst, where


def _part_of(rows: Rows) -> Any:
    def part(leaf: torch.Tensor) -> torch.Tensor:
        if isinstance(leaf, ShardedTensor) and leaf.rows == rows:
            return leaf.part.detach()
        whole = _whole(leaf)
        return my_rows(whole, rows) if whole.dim() and whole.shape[0] == rows.total else whole

    return part


def _keeper(call: Call, index: int) -> Any:
    def keep(grad: torch.Tensor) -> None:
        call.grads[index] = grad.detach()

    return keep


def _whole_gradient(grad: torch.Tensor, dim: int, factor: int, rows: Rows) -> torch.Tensor:
    """Return the true gradient of a whole output: ranks hold world_size times their rows of it."""
    split = rows if factor == 1 else rows.times(factor)
    return ShardedTensor(grad, split, dim).whole() / len(rows.counts)


def _whole(leaf: torch.Tensor) -> torch.Tensor:
    return leaf.whole().detach() if isinstance(leaf, GlobalTensor) else leaf.detach()
