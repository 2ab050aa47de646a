"""The model boundary: inside the outermost call of a module with parameters, everything is plain.

A call with rows of a batch runs on this rank's rows at full local speed, if a probe has shown that
f(x)[rows] == f(x[rows]); else it runs on the whole batch on every rank: slower, never wrong.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nbaas.parallel import trees
from nbaas.parallel.gradients import GradientAverager
from nbaas.parallel.probe import OutputPlan, compare_outputs, quiet_randomness, restored
from nbaas.parallel.randomness import Randomness
from nbaas.parallel.rows import Rows, split_rows
from nbaas.parallel.selfcheck import FirstStepCheck
from nbaas.parallel.sharded import GlobalTensor, PartialTensor, ShardedTensor, my_rows
from nbaas.parallel.world import World, entering

MIN_ROWS_TO_SPLIT = 2  # rows a rank, below which a plain call is not worth splitting


@dataclass(slots=True)
class ModuleNotes:
    """What is known of one module: whether it owns parameters, and a plan for each kind of call."""

    owns_parameters: bool
    name: str
    generation: int = -1
    plans: dict[Any, OutputPlan | None] = None  # type: ignore[assignment]  # None: replicated


class ModuleBoundary:
    """Replaces `nn.Module.__call__` in a rank."""

    def __init__(self, world: World, averager: GradientAverager, randomness: Randomness) -> None:
        self.world = world
        self.averager = averager
        self.notes: weakref.WeakKeyDictionary[nn.Module, ModuleNotes] = weakref.WeakKeyDictionary()
        self.generation = 0  # raised at each pass over a loader: new parameters are looked for
        self.check = FirstStepCheck(world)
        self.original: Callable[..., Any] = nn.Module.__call__
        self.randomness = randomness

    def install(self) -> None:
        world, original, boundary = self.world, self.original, self

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if world.depth:
                return original(module, *args, **kwargs)
            return boundary.enter(module, args, kwargs)

        nn.Module.__call__ = call  # type: ignore[method-assign]

    def uninstall(self) -> None:
        nn.Module.__call__ = self.original  # type: ignore[method-assign]

    def note_of(self, module: nn.Module) -> ModuleNotes:
        note = self.notes.get(module)
        if note is None:
            owns = next(module.parameters(), None) is not None
            note = ModuleNotes(owns, type(module).__name__, plans={})
            self.notes[module] = note
        if note.generation != self.generation:
            note.generation = self.generation
            note.owns_parameters = next(module.parameters(), None) is not None
            self.averager.watch(module.parameters())
        return note

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        note = self.note_of(module)
        if not note.owns_parameters:
            return self.original(module, *args, **kwargs)
        leaves = trees.tensors((args, kwargs))
        rows = _rows_of(leaves, self.world)
        if rows is None:
            return self._replicated(module, args, kwargs)
        key = _call_kind(module, leaves, rows)
        if key not in note.plans:
            note.plans[key] = self._probe(module, note, args, kwargs, rows)
        plan = note.plans[key]
        if plan is None:
            return self._replicated(module, args, kwargs)
        return self._split(module, args, kwargs, rows, plan)

    # ---- the two ways to run a call ------------------------------------------------------------

    def _replicated(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        plain_args = trees.map_tensors(_whole, args)
        plain_kwargs = trees.map_tensors(_whole, kwargs)
        with self._inside(None):
            return self.original(module, *plain_args, **plain_kwargs)

    def _split(
        self, module: nn.Module, args: Any, kwargs: Any, rows: Rows, plan: OutputPlan
    ) -> Any:
        def local(leaf: torch.Tensor) -> torch.Tensor:
            return _local(leaf, rows, plan.row_dim)

        local_args = trees.map_tensors(local, args)
        local_kwargs = trees.map_tensors(local, kwargs)
        world = self.world
        before = self.randomness.enter_model()
        world.depth, world.rows = world.depth + 1, rows
        try:
            result = self.original(module, *local_args, **local_kwargs)
        finally:
            world.depth, world.rows = world.depth - 1, None
            self.randomness.leave_model(before)
        if not self.check.done:
            self.check.follow(module, args, kwargs, result, plan, rows)
        return plan.wrap(result, rows)

    @contextlib.contextmanager
    def _inside(self, rows: Rows | None) -> Iterator[None]:
        world = self.world
        world.depth += 1
        world.rows = rows
        try:
            yield
        finally:
            world.depth -= 1
            world.rows = None

    # ---- the probe -----------------------------------------------------------------------------

    def _probe(
        self, module: nn.Module, note: ModuleNotes, args: Any, kwargs: Any, rows: Rows
    ) -> OutputPlan | None:
        """Return how outputs follow rows, agreed by all ranks; None: the call must run replicated."""
        plan, reason = None, ""
        plain = [trees.map_tensors(_whole_detached, tree) for tree in (args, kwargs)]
        try:
            with torch.no_grad(), restored(module), quiet_randomness(), self._inside(None):
                full = self.original(module, *plain[0], **plain[1])
        except Exception as broken:  # noqa: BLE001 - the user's own error comes up in the real call
            full, reason = None, f"{type(broken).__name__}: {broken}"
        if not self.world.all_agree(not reason):
            self._refuse(note, reason or "it failed on another rank")
            return None
        pieces = [
            trees.map_tensors(lambda t: _local(t, rows, 0).detach(), tree)
            for tree in (args, kwargs)
        ]
        try:
            with torch.no_grad(), restored(module), quiet_randomness(), self._inside(rows):
                local = self.original(module, *pieces[0], **pieces[1])
        except Exception as broken:  # noqa: BLE001 - a model that takes no part of a batch
            local, reason = None, f"{type(broken).__name__}: {broken}"
        if not self.world.all_agree(not reason):
            self._refuse(note, reason or "it failed on another rank")
            return None
        plan, reason = compare_outputs(full, local, rows, self.world)
        if plan is None:
            self._refuse(note, reason)
        return plan

    def _refuse(self, note: ModuleNotes, reason: str) -> None:
        """Note why every call of the module is for the whole batch."""
        self.world.notes[note.name] = f"ran on the whole batch on every rank: {reason}"


def _whole(leaf: torch.Tensor) -> torch.Tensor:
    return leaf.whole() if isinstance(leaf, GlobalTensor) else leaf


def _whole_detached(leaf: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        if isinstance(leaf, PartialTensor):
            return leaf.settled()
        return _whole(leaf).detach()


def _local(leaf: torch.Tensor, rows: Rows, dim: int) -> torch.Tensor:
    """Return this rank's part of an argument; arguments without rows are given whole."""
    if isinstance(leaf, ShardedTensor):
        return leaf.part if leaf.rows == rows else leaf.whole()
    if isinstance(leaf, PartialTensor):
        return leaf.whole()
    if leaf.dim() > dim and leaf.shape[dim] == rows.total:
        return my_rows(entering(leaf), rows, dim)
    return leaf


def _rows_of(leaves: list[torch.Tensor], world: World) -> Rows | None:
    """Return the rows a call can be split by; None where it has no batch or one too small."""
    for leaf in leaves:
        if isinstance(leaf, ShardedTensor):
            return leaf.rows
    for leaf in leaves:
        if not isinstance(leaf, GlobalTensor) and leaf.dim():
            total = leaf.shape[0]
            if total < MIN_ROWS_TO_SPLIT * world.size:
                return None
            return split_rows(total, world.size, world.rank)
    return None


def _call_kind(module: nn.Module, leaves: list[torch.Tensor], rows: Rows) -> Any:
    """Return what a plan holds for: mode, and the place of rows in each argument."""
    total = rows.total
    return (module.training, *[_leaf_kind(leaf, total) for leaf in leaves])


def _leaf_kind(leaf: torch.Tensor, total: int) -> tuple[int, int]:
    if isinstance(leaf, ShardedTensor):
        return leaf.part.dim(), leaf.row_dim
    if isinstance(leaf, PartialTensor):
        return 0, -1
    return leaf.dim(), -2 if leaf.dim() and leaf.shape[0] == total else -3
