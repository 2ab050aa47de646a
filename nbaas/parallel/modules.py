"""The model boundary: inside the outermost call of a module with parameters, everything is plain.

A call with rows of a batch runs on this rank's rows at full local speed, if a probe has shown that
f(x)[rows] == f(x[rows]); else it runs on the whole batch on every rank: slower, never wrong.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nbaas.parallel import trees
from nbaas.parallel.draws import Draws, plan_draws
from nbaas.parallel.gradients import GradientAverager, is_lazy
from nbaas.parallel.probe import (
    OutputPlan,
    compare_outputs,
    matches_alone,
    quiet_randomness,
    restored,
)
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
    hooked: bool = False  # hooks of the user's see activations: of the whole batch
    lazy: bool = False
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
        self.draws = Draws(world, randomness)
        self.check.begin_draws = self.draws.begin

    def install(self) -> None:
        world, original, boundary = self.world, self.original, self

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if world.depth:
                return original(module, *args, **kwargs)
            return boundary.enter(module, args, kwargs)

        nn.Module.__call__ = call  # type: ignore[method-assign]
        self.undo_hooks = [self.draws.install()] + [
            _watch_registration(self, name) for name in _REGISTRATIONS
        ]

    def uninstall(self) -> None:
        nn.Module.__call__ = self.original  # type: ignore[method-assign]
        for undo in self.undo_hooks:
            undo()

    def note_of(self, module: nn.Module) -> ModuleNotes:
        note = self.notes.get(module)
        if note is None:
            owns = next(module.parameters(), None) is not None
            note = ModuleNotes(owns, type(module).__name__, plans={})
            self.notes[module] = note
        if note.generation != self.generation:
            parameters = list(module.parameters())
            lazy = any(is_lazy(p) for p in parameters)
            note.generation = -1 if lazy else self.generation
            note.owns_parameters = bool(parameters)
            note.hooked = _has_foreign_hooks(module)
            note.lazy = lazy
            self.averager.watch(parameters)
        return note

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        note = self.note_of(module)
        if not note.owns_parameters:
            return self.original(module, *args, **kwargs)
        leaves = trees.tensors((args, kwargs))
        rows = _rows_of(leaves, self.world)
        if rows is None or note.lazy or _under_functorch():
            return self._replicated(module, args, kwargs)
        if note.hooked:
            self._refuse(note, "its forward hooks see activations")
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
        self.draws.begin(plan.draws)
        world.depth, world.rows = world.depth + 1, rows
        world.last_rows = rows
        try:
            result = self.original(module, *local_args, **local_kwargs)
        finally:
            world.depth, world.rows = world.depth - 1, None
            self.randomness.leave_model()
        if not self.check.done:
            self.check.follow(module, (args, kwargs), result, plan, rows, before)
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
        drawn: tuple[list[Any], list[Any]] = ([], [])
        plain = [trees.map_tensors(_whole_detached, tree) for tree in (args, kwargs)]
        try:
            with (
                torch.no_grad(),
                restored(module),
                quiet_randomness(),
                self._logging(drawn[0]),
                self._inside(None),
            ):
                full = self.original(module, *plain[0], **plain[1])
        except Exception as broken:  # noqa: BLE001 - the user's own error comes up in the real call
            full, reason = None, f"{type(broken).__name__}: {broken}"
        if not self.world.all_agree(verdict=not reason):
            self._refuse(note, reason or "it failed on another rank")
            return None
        pieces = [
            trees.map_tensors(lambda t: _local(t, rows, 0).detach(), tree)
            for tree in (args, kwargs)
        ]
        try:
            with (
                torch.no_grad(),
                restored(module),
                quiet_randomness(),
                self._logging(drawn[1]),
                self._inside(rows),
            ):
                local = self.original(module, *pieces[0], **pieces[1])
        except Exception as broken:  # noqa: BLE001 - a model that takes no part of a batch
            local, reason = None, f"{type(broken).__name__}: {broken}"
        if not self.world.all_agree(verdict=not reason):
            self._refuse(note, reason or "it failed on another rank")
            return None
        plan, reason = compare_outputs(full, local, rows, self.world)
        if plan is not None and not self._same_alone(module, plain, full, plan, rows):
            plan, reason = None, "an output for one row alone has another shape or value"
        if plan is None:
            self._refuse(note, reason)
            return None
        every = self.world.gather_objects(plan_draws(*drawn, rows))
        same = every[0] is not None and all(other == every[0] for other in every)
        return replace(plan, draws=every[0]) if same else plan

    @contextlib.contextmanager
    def _logging(self, shapes: list[Any]) -> Iterator[None]:
        self.draws.log = shapes
        try:
            yield
        finally:
            self.draws.log = None

    def _same_alone(
        self, module: nn.Module, plain: list[Any], full: Any, plan: OutputPlan, rows: Rows
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

        try:
            with torch.no_grad(), restored(module), quiet_randomness(), self._inside(None):
                alone = self.original(
                    module, *trees.map_tensors(one, plain[0]), **trees.map_tensors(one, plain[1])
                )
        except Exception:  # noqa: BLE001 - a model that squeezes or needs two rows
            return self.world.all_agree(verdict=True)
        same = matches_alone(full, alone, plan, row)
        return self.world.all_agree(verdict=same)

    def _refuse(self, note: ModuleNotes, reason: str) -> None:
        """Note why every call of the module is for the whole batch."""
        self.world.notes[note.name] = f"ran on the whole batch on every rank: {reason}"


_REGISTRATIONS = ("register_forward_hook", "register_forward_pre_hook")


def _watch_registration(boundary: ModuleBoundary, name: str) -> Callable[[], None]:
    """Look at modules anew after a hook was registered on any of them."""
    original = getattr(nn.Module, name)

    def register(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        boundary.generation += 1
        return original(module, *args, **kwargs)

    setattr(nn.Module, name, register)
    return lambda: setattr(nn.Module, name, original)


def _has_foreign_hooks(module: nn.Module) -> bool:
    """Tell whether hooks that are not torch's own (weight norm, pruning) see activations inside."""
    hooks = (
        hook
        for part in module.modules()
        for hook in (*part._forward_hooks.values(), *part._forward_pre_hooks.values())
    )
    return any(not _home(hook).startswith("torch.") for hook in hooks)


def _home(hook: Any) -> str:
    bound = getattr(hook, "__self__", None)
    named = hook if hasattr(hook, "__qualname__") else type(hook)
    return str(getattr(type(bound) if bound is not None else named, "__module__", "") or "")


def _under_functorch() -> bool:
    return torch._C._functorch.peek_interpreter_stack() is not None


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
