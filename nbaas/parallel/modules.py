"""The model boundary: inside the outermost call of a module with parameters, everything is plain.

A call with rows of a batch runs on this rank's rows at full local speed, if a probe has shown that
f(x)[rows] == f(x[rows]); else it runs on the whole batch on every rank: slower, never wrong.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from nbaas.parallel import trees
from nbaas.parallel.decisions import Decisions, UndecidedError
from nbaas.parallel.draws import Draws
from nbaas.parallel.gradients import GradientAverager, is_lazy
from nbaas.parallel.keepsakes import LocalState
from nbaas.parallel.probe import OutputPlan
from nbaas.parallel.prober import Prober, local
from nbaas.parallel.randomness import Randomness
from nbaas.parallel.rows import Rows, split_rows
from nbaas.parallel.selfcheck import FirstStepCheck
from nbaas.parallel.sharded import GlobalTensor, PartialTensor, ShardedTensor
from nbaas.parallel.trial import Snapshot
from nbaas.parallel.world import World

MIN_ROWS_TO_SPLIT = 2  # rows a rank, below which a plain call is not worth splitting


@dataclass(slots=True)
class ModuleNotes:
    """What is known of one module: whether it owns parameters, and a plan for each kind of call."""

    owns_parameters: bool
    name: str
    generation: int = -1
    hooked: bool = False  # hooks of the user's see activations: of the whole batch
    lazy: bool = False
    keeps: bool = False  # a call keeps tensors of the batch in attributes
    plans: dict[Any, OutputPlan | None] = field(default_factory=dict)  # None: replicated
    others: dict[int, OutputPlan | None] = field(default_factory=dict)  # by number of outputs


class SplitCall(NamedTuple):
    """One call of a module that is split by rows, as the cell made it."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rows: Rows
    plan: OutputPlan


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
        self.prober = Prober(world, self.draws, self.original)
        self.holds_rows = False  # rows of a batch were put into an attribute of some module

    def install(self) -> None:
        world, original, boundary = self.world, self.original, self

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if world.depth:
                if world.recomputing and _has_rows(args, kwargs):
                    return boundary.again(module, args, kwargs)
                return original(module, *args, **kwargs)
            if not module._modules and not module._parameters:  # a loss, an activation
                return original(module, *args, **kwargs)
            return boundary.enter(module, args, kwargs)

        nn.Module.__call__ = call  # type: ignore[method-assign]
        self.undo_hooks = [self.draws.install(), _watch_attributes(self)] + [
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
            note = ModuleNotes(owns, type(module).__name__)
            self.notes[module] = note
        if note.generation != self.generation:
            parameters = list(module.parameters())
            lazy = any(is_lazy(p) for p in parameters)
            note.generation = -1 if lazy else self.generation
            note.owns_parameters = bool(parameters)
            note.hooked = has_foreign_hooks(module)
            note.lazy = lazy
            self.averager.watch(parameters)
        return note

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        note = self.note_of(module)
        if not note.owns_parameters:
            return self.original(module, *args, **kwargs)
        if len(args) == 1 and not kwargs and type(args[0]) is ShardedTensor:
            leaves: list[torch.Tensor] = [args[0]]
        else:
            leaves = trees.tensors((args, kwargs))
        rows = _rows_of(leaves, self.world)
        if rows is None or note.lazy or _under_functorch():
            return self._replicated(module, args, kwargs)
        if note.hooked:
            self._refuse(note, "its hooks see activations")
            return self._replicated(module, args, kwargs)
        key = _call_kind(module, leaves, rows, (args, kwargs))
        if key not in note.plans:
            note.plans[key] = self._probe(module, note, (args, kwargs), rows)
        plan = note.plans[key]
        if plan is None:
            return self._replicated(module, args, kwargs)
        call = SplitCall(module, args, kwargs, rows, plan)
        return self._careful(call) if plan.careful else self._split(call)

    def again(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call once more within backward (activation checkpointing), as it ran before."""
        leaves = trees.tensors((args, kwargs))
        rows = _rows_of(leaves, self.world)
        note = self.note_of(module)
        if not note.owns_parameters:
            return self.original(module, *args, **kwargs)
        plan = None
        if rows is not None:
            plan = note.plans.get(_call_kind(module, leaves, rows, (args, kwargs)))
        if plan is None or rows is None:
            return self._replicated(module, args, kwargs)
        self.draws.begin(plan.draws)
        result = self._local(SplitCall(module, args, kwargs, rows, plan))
        return plan.wrap(result, rows)

    def _probe(
        self, module: nn.Module, note: ModuleNotes, arguments: tuple[Any, Any], rows: Rows
    ) -> OutputPlan | None:
        plan, reason = self.prober.probe(module, *arguments, rows)
        if plan is None:
            self._refuse(note, reason)
        elif plan.kept:
            note.keeps = True
        return plan

    # ---- the ways to run a call ----------------------------------------------------------------

    def _replicated(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        plain_args = trees.map_tensors(_whole, args)
        plain_kwargs = trees.map_tensors(_whole, kwargs)
        state = self._state_of(module, _whole)
        try:
            with self.world.inside(None):
                return self.original(module, *plain_args, **plain_kwargs)
        finally:
            if state is not None:
                state.settle()

    def _split(self, call: SplitCall) -> Any:
        """Run a call on this rank's rows, at full local speed."""
        module, rows, plan = call.module, call.rows, call.plan
        state = self._state_of(module, lambda leaf: _same_rows(leaf, rows))
        before = self.randomness.enter_model()
        self.draws.begin(plan.draws)
        self.world.last_rows = rows
        try:
            result = self._local(call)
        finally:
            self.randomness.leave_model()
            if state is not None:
                state.settle(lambda new: plan.wrap_kept(new, rows))
        if not self.check.done:
            self.check.follow(module, (call.args, call.kwargs), result, plan, rows, before)
        count = 1 if type(result) is torch.Tensor else len(trees.tensors(result))
        if count != len(plan.leaves):
            plan = self._other_plan(call, count)
        return plan.wrap(result, rows)

    def _local(self, call: SplitCall) -> Any:
        rows = call.rows

        def mine(leaf: torch.Tensor) -> torch.Tensor:
            return local(leaf, rows, call.plan.row_dim)

        args, kwargs = call.args, call.kwargs
        if len(args) == 1 and not kwargs and type(args[0]) is ShardedTensor:
            args = (args[0].part,)  # its rows are those of the call
        else:
            args, kwargs = trees.map_tensors(mine, args), trees.map_tensors(mine, kwargs)
        world = self.world
        before = world.depth, world.rows  # written out, as `inside` costs a microsecond
        world.depth, world.rows = world.depth + 1, rows
        try:
            return self.original(call.module, *args, **kwargs)
        finally:
            world.depth, world.rows = before

    def _other_plan(self, call: SplitCall, tensors: int) -> OutputPlan:
        """Return the plan of a call that gave another number of tensors than the first one."""
        note = self.notes[call.module]
        if tensors not in note.others:
            note.others[tensors] = self._probe(
                call.module, note, (call.args, call.kwargs), call.rows
            )
        return note.others[tensors] or call.plan

    def _careful(self, call: SplitCall) -> Any:
        """Run a call whose sizes or branches may follow values; on the whole batch if ranks differ."""
        snapshot = Snapshot(call.module)
        result, mine = None, None
        try:
            with Decisions(self.world):
                result = self._split(call)
            local_result = trees.map_tensors(_part, result)
            mine = call.plan.signature(local_result, call.rows)
        except UndecidedError:
            pass
        except Exception:  # noqa: BLE001 - a part may be empty where the batch is not; it runs whole
            mine = None
        every = self.world.gather_objects(mine)
        if every[0] is not None and all(other == every[0] for other in every):
            return result
        snapshot.put_back()
        return self._replicated(call.module, call.args, call.kwargs)

    def _state_of(self, module: nn.Module, take: Any) -> LocalState | None:
        keeps = self.holds_rows or self.notes[module].keeps
        return LocalState(module, take) if keeps else None

    def _refuse(self, note: ModuleNotes, reason: str) -> None:
        """Note why every call of the module is for the whole batch."""
        self.world.notes[note.name] = f"ran on the whole batch on every rank: {reason}"


_REGISTRATIONS = (
    "register_forward_hook", "register_forward_pre_hook",
    "register_full_backward_hook", "register_full_backward_pre_hook", "register_backward_hook",
)  # fmt: skip


def _watch_registration(boundary: ModuleBoundary, name: str) -> Callable[[], None]:
    """Look at modules anew after a hook was registered on any of them."""
    original = getattr(nn.Module, name)

    def register(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        boundary.generation += 1
        return original(module, *args, **kwargs)

    setattr(nn.Module, name, register)
    return lambda: setattr(nn.Module, name, original)


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def has_foreign_hooks(module: nn.Module) -> bool:
    """Tell whether hooks that are not torch's own (weight norm, pruning) see activations inside."""
    hooks = (
        hook
        for part in module.modules()
        for kind in _HOOKS
        for hook in getattr(part, kind).values()
    )
    return any(not _home(hook).startswith("torch.") for hook in hooks)


def _watch_attributes(boundary: ModuleBoundary) -> Callable[[], None]:
    """Notice rows of a batch that the cell puts into an attribute of a module."""
    original = nn.Module.__setattr__

    def set_attribute(module: nn.Module, name: str, value: Any) -> None:
        if isinstance(value, GlobalTensor) and not boundary.world.depth:
            boundary.holds_rows = True
        original(module, name, value)

    nn.Module.__setattr__ = set_attribute  # type: ignore[method-assign,assignment]

    def undo() -> None:
        nn.Module.__setattr__ = original  # type: ignore[method-assign]

    return undo


def _home(hook: Any) -> str:
    bound = getattr(hook, "__self__", None)
    named = hook if hasattr(hook, "__qualname__") else type(hook)
    return str(getattr(type(bound) if bound is not None else named, "__module__", "") or "")


def _under_functorch() -> bool:
    return torch._C._functorch.peek_interpreter_stack() is not None


def _has_rows(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return any(isinstance(leaf, GlobalTensor) for leaf in trees.tensors((args, kwargs)))


def _same_rows(leaf: torch.Tensor, rows: Rows) -> torch.Tensor:
    return leaf.part if isinstance(leaf, ShardedTensor) and leaf.rows == rows else leaf


def _part(leaf: torch.Tensor) -> torch.Tensor:
    return leaf.part if isinstance(leaf, GlobalTensor) else leaf


def _whole(leaf: torch.Tensor) -> torch.Tensor:
    return leaf.whole() if isinstance(leaf, GlobalTensor) else leaf


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


def _call_kind(module: nn.Module, leaves: list[torch.Tensor], rows: Rows, given: Any) -> Any:
    """Return what a plan holds for: modes, the flags given, and the place of rows in each argument."""
    total = rows.total
    kinds = [_leaf_kind(leaf, total) for leaf in leaves]
    args, kwargs = given
    flags = [a for a in (*args, *kwargs.values()) if isinstance(a, (bool, str))]
    return (module.training, torch.is_grad_enabled(), *kwargs, *flags, *kinds)


def _leaf_kind(leaf: torch.Tensor, total: int) -> tuple[int, int]:
    if isinstance(leaf, ShardedTensor):
        return leaf.part.dim(), leaf.row_dim
    if isinstance(leaf, PartialTensor):
        return 0, -1
    return leaf.dim(), -2 if leaf.dim() and leaf.shape[0] == total else -3
