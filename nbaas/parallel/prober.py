"""The probe of a module: three trial runs, compared by all ranks, that say how a call may be split.

f(x)[rows] must equal f(x[rows]), what the run leaves behind must be the same, and one row alone must
come out as in the batch.  What a run does with *values* counts too: the first batch may hide it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nbaas.parallel import trees
from nbaas.parallel.draws import Draws, plan_draws
from nbaas.parallel.keepsakes import LocalState
from nbaas.parallel.probe import OutputPlan, compare_outputs, matches_alone, same_state
from nbaas.parallel.rows import Rows, split_rows
from nbaas.parallel.sharded import PartialTensor, ShardedTensor, my_rows, whole
from nbaas.parallel.trial import DECIDES, READS, SIZES, Trial, run_trial
from nbaas.parallel.world import World, entering

NO_MEMORY = "OutOfMemoryError"
Verdict = tuple[OutputPlan | None, str]  # the plan, or why there is none


class Prober:
    """Makes the trial runs of one session; every rank makes the same ones."""

    def __init__(self, world: World, draws: Draws, original: Callable[..., Any]) -> None:
        self.world = world
        self.draws = draws
        self.original = original
        self.sees_inside = False  # a hook was put on an activation during a trial

    def probe(self, module: nn.Module, args: Any, kwargs: Any, rows: Rows) -> Verdict:
        """Return how outputs follow rows, agreed by all ranks; None: the call must run replicated."""
        wholes = [trees.map_tensors(whole_detached, tree) for tree in (args, kwargs)]
        drawn: tuple[list[Any], list[Any]] = ([], [])
        with torch.no_grad():
            full = self._trial(module, wholes, whole_detached, None, drawn[0])
        errors = self.world.gather_objects(full.error)
        few = split_rows(2 * self.world.size, self.world.size, self.world.rank)
        if any(error.startswith(NO_MEMORY) for error in errors) and few.total < rows.total:
            # Only a part of the batch may fit: ask with a few rows of it.
            args, kwargs = (
                trees.map_tensors(lambda t: _first(t, rows, few), tree) for tree in wholes
            )
            return self.probe(module, args, kwargs, few)
        if any(errors):
            return None, full.error or "it failed on another rank"
        if READS in full.found:
            return (
                None,
                "it reads a number of the batch while it runs, by .item(), int() or float()",
            )

        def mine(leaf: torch.Tensor) -> torch.Tensor:
            return _part_of_trial(leaf, rows)

        pieces = [trees.map_tensors(mine, tree) for tree in (args, kwargs)]
        self.sees_inside = False
        local = self._trial(module, pieces, mine, rows, drawn[1])
        if not self.world.all_agree(verdict=not local.error):
            return None, local.error or "it failed on another rank"
        if not self.world.all_agree(verdict=not self.sees_inside):
            return None, "it puts hooks on activations"
        return self._compared(module, (full, local), wholes, rows, drawn)

    def _compared(
        self,
        module: nn.Module,
        trials: tuple[Trial, Trial],
        wholes: list[Any],
        rows: Rows,
        drawn: tuple[list[Any], list[Any]],
    ) -> Verdict:
        full, local = trials
        reasons = self.world.gather_objects(same_state(full, local))
        if any(reasons):
            return None, next(filter(None, reasons))
        leaves, reason = compare_outputs(full, local, rows, self.world)
        if leaves is None:
            return None, reason
        given = len(trees.tensors(full.outputs))
        if not self._same_alone(module, wholes, full, leaves[:given], rows):
            return None, "an output for one row alone has another shape or value"
        plan = OutputPlan(
            leaves[:given],
            kept=tuple((slot, len(new)) for slot, new in full.kept.items()),
            kept_leaves=leaves[given:],
            careful=bool(full.found & {SIZES, DECIDES}),
        )
        every = self.world.gather_objects(plan_draws(*drawn, rows))
        same = every[0] is not None and all(other == every[0] for other in every)
        return (replace(plan, draws=every[0]) if same else plan), ""

    def _trial(
        self, module: nn.Module, inputs: list[Any], take: Any, rows: Rows | None, shapes: list[Any]
    ) -> Trial:
        state = LocalState(module, take)
        try:
            with self._logging(shapes), self._inside(rows), _own_saved_tensors():
                return run_trial(module, self.original, *inputs, watched=rows is None)
        finally:
            state.settle()

    def _same_alone(
        self, module: nn.Module, wholes: list[Any], full: Trial, leaves: Any, rows: Rows
    ) -> bool:
        """Tell whether one row alone comes out as in the batch, on every rank.

        It finds what a part of the batch may hide: outputs as long as the longest sample.
        """
        if module.training and any(isinstance(m, _BatchNorm) for m in module.modules()):
            return True
        row = min(rows.offset, rows.total - 1)

        def one(leaf: torch.Tensor) -> torch.Tensor:
            has_rows = leaf.dim() > 0 and leaf.shape[0] == rows.total
            return leaf.narrow(0, row, 1) if has_rows else leaf

        inputs = [trees.map_tensors(one, tree) for tree in wholes]
        with torch.no_grad():
            alone = self._trial(module, inputs, whole_detached, None, [])
        # A model that squeezes, keeps a state of the batch, or needs two rows says nothing here.
        fits = bool(alone.error) or matches_alone(full.outputs, alone.outputs, leaves, row)
        return self.world.all_agree(verdict=fits)

    @contextlib.contextmanager
    def _logging(self, shapes: list[Any]) -> Iterator[None]:
        self.draws.log = shapes
        try:
            yield
        finally:
            self.draws.log = None

    @contextlib.contextmanager
    def _inside(self, rows: Rows | None) -> Iterator[None]:
        world = self.world
        world.depth, world.rows, world.trying = world.depth + 1, rows, self
        try:
            yield
        finally:
            world.depth, world.rows, world.trying = world.depth - 1, None, None


def _own_saved_tensors() -> Any:
    """Keep what a trial saves for backward out of the books of activation checkpointing."""
    return torch.autograd.graph.saved_tensors_hooks(lambda saved: saved, lambda saved: saved)


def _first(leaf: torch.Tensor, rows: Rows, few: Rows) -> torch.Tensor:
    has_rows = leaf.dim() > 0 and leaf.shape[0] == rows.total
    return leaf.narrow(0, 0, few.total) if has_rows else leaf


def whole_detached(leaf: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        if isinstance(leaf, PartialTensor):
            return leaf.settled()
        return whole(leaf).detach()


def local(leaf: torch.Tensor, rows: Rows, dim: int) -> torch.Tensor:
    """Return this rank's part of an argument; arguments without rows are given whole."""
    if isinstance(leaf, ShardedTensor):
        return leaf.part if leaf.rows == rows else leaf.whole()
    if isinstance(leaf, PartialTensor):
        return leaf.whole()
    if leaf.dim() > dim and leaf.shape[dim] == rows.total:
        return my_rows(entering(leaf), rows, dim)
    return leaf


def _part_of_trial(leaf: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Return the part that a trial gets: apart from the graph, with a gradient where the real one has."""
    with torch.no_grad():
        part = local(leaf, rows, 0).detach()
    if not (leaf.requires_grad and torch.is_grad_enabled() and part.is_floating_point()):
        return part
    return part.requires_grad_().clone()
