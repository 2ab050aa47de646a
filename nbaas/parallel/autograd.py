"""Autograd on sharded and partial values: backward, grad, and the hooks of the user's.

Rule: user code sees gradients as one device has them.  Autograd's own are those of world_size times
the loss on this rank's rows (see world.py), so a hook of the user's on a leaf runs after an average,
one on sharded rows gets the true rows, and `torch.autograd.grad` averages what it found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from nbaas.parallel import gradients
from nbaas.parallel.rules import Args, Kwargs, names, rule
from nbaas.parallel.sharded import GlobalTensor, PartialTensor, ShardedTensor, my_rows
from nbaas.parallel.world import (
    AverageGradient,
    EnterShard,
    GatherRows,
    MeanOverRanks,
    World,
    average,
    world,
)

_OF_PART = names("""get:requires_grad get:is_leaf get:grad_fn get:output_nr get:_version is_inference
    retain_grad is_contiguous stride is_pinned get:retains_grad get:_backward_hooks is_shared
    storage_offset is_conj is_neg""")


@rule(*_OF_PART)
def _of_part(func: Any, args: Args, kwargs: Kwargs) -> Any:
    return func(args[0].part, *args[1:], **kwargs)


@rule("set:requires_grad")
def _set_requires_grad(func: Any, args: Args, kwargs: Kwargs) -> None:
    args[0].part.requires_grad_(args[1])


@rule("get:data")
def _get_data(func: Any, args: Args, kwargs: Kwargs) -> Any:
    data = func(args[0].part)
    if isinstance(args[0], PartialTensor):
        return PartialTensor(data)
    return ShardedTensor(data, args[0].rows, args[0].row_dim)


_true_parts: Any = WeakIdKeyDictionary()  # leaves whose gradient is the true one


@rule("get:grad")
def _get_grad(func: Any, args: Args, kwargs: Kwargs) -> Any:
    """The true derivative: autograd's local one is world_size times it (see world.py).

    A leaf is made to hold the true one from its first reading on: `x.grad.zero_()` must reach it.
    """
    tensor = args[0]
    grad = func(tensor.part)
    if grad is None or isinstance(tensor, PartialTensor):
        return grad
    part, size = tensor.part, world().size
    if not part.is_leaf:
        return ShardedTensor(grad / size, tensor.rows, tensor.row_dim)
    if not _is_true(part):
        grad.div_(size)
        gradients.register_plain_hook(part, lambda g: g / size)
        _true_parts[part] = True
    return ShardedTensor(grad, tensor.rows, tensor.row_dim)


def _is_true(part: torch.Tensor) -> bool:
    return bool(_true_parts.get(part, False))


@rule("set:grad")
def _set_grad(func: Any, args: Args, kwargs: Kwargs) -> None:
    if args[1] is not None:
        raise NotImplementedError("a gradient was assigned to a sharded tensor")
    args[0].part.grad = None


@rule("backward")
def _backward(func: Any, args: Args, kwargs: Kwargs) -> None:
    """Start autograd at this rank's part; gradients are averaged as they become ready."""
    root: Any = args[0]
    rest = list(args[1:])
    if not isinstance(root, torch.Tensor):
        _backward_of_several(list(root), rest, kwargs)
        return
    if isinstance(root, ShardedTensor):
        if not rest and "gradient" not in kwargs:
            raise RuntimeError("grad can be implicitly created only for scalar outputs")
        gradient = _cut(rest[0] if rest else kwargs["gradient"], root) * world().size
        func(root.part, gradient, *rest[1:], **{k: v for k, v in kwargs.items() if k != "gradient"})
        return
    inputs = kwargs.get("inputs")
    if inputs is not None:
        kwargs = {
            **kwargs,
            "inputs": [t.part if isinstance(t, GlobalTensor) else t for t in inputs],
        }
    partial: PartialTensor = args[0]
    with gradients.carrying(partial):
        func(partial.part, *rest, **kwargs)


def _cut(value: Any, like: ShardedTensor) -> Any:
    if isinstance(value, ShardedTensor):
        return value.part
    return my_rows(value, like.rows, like.row_dim)


@rule("grad")
def _autograd_grad(func: Any, args: Args, kwargs: Kwargs) -> Any:
    """torch.autograd.grad: true derivatives, sharded for sharded inputs, averaged for plain ones."""
    outputs, inputs, *rest = args
    given = rest[0] if rest else kwargs.get("grad_outputs")
    single = isinstance(outputs, torch.Tensor)
    outputs = [outputs] if single else list(outputs)
    wanted = [inputs] if isinstance(inputs, torch.Tensor) else list(inputs)
    seeds = [given] if isinstance(given, torch.Tensor) or given is None else list(given)
    seeds = seeds * len(outputs) if seeds == [None] else seeds
    local_seeds = [_seed(out, seed) for out, seed in zip(outputs, seeds, strict=True)]
    options = {
        key: value
        for key, value in kwargs.items()
        if key not in ("grad_outputs", "outputs", "inputs")
    }
    found = func(
        [out.part if isinstance(out, GlobalTensor) else out for out in outputs],
        [t.part if isinstance(t, GlobalTensor) else t for t in wanted],
        local_seeds, *rest[1:], **options,
    )  # fmt: skip
    return tuple(_true_gradient(g, t) for g, t in zip(found, wanted, strict=True))


def _seed(output: torch.Tensor, seed: Any) -> Any:
    if not isinstance(output, ShardedTensor):
        return seed
    if seed is None:
        raise RuntimeError("grad can be implicitly created only for scalar outputs")
    return _cut(seed, output) * world().size


def _true_gradient(grad: Any, wanted: torch.Tensor) -> Any:
    if grad is None:
        return None
    if isinstance(wanted, ShardedTensor):
        true = grad if _is_true(wanted.part) else grad / world().size
        return ShardedTensor(true, wanted.rows, wanted.row_dim)
    return average(grad)


def _backward_of_several(roots: list[torch.Tensor], rest: list[Any], kwargs: Kwargs) -> None:
    """torch.autograd.backward([a, b]): one root at a time, whose gradients add up."""
    seeds = rest[0] if rest else kwargs.pop("grad_tensors", None)
    seeds = [seeds] if isinstance(seeds, torch.Tensor) else list(seeds or [None] * len(roots))
    for index, (root, seed) in enumerate(zip(roots, seeds, strict=True)):
        keep = index + 1 < len(roots) or kwargs.get("retain_graph")
        root.backward(seed, **{**kwargs, "retain_graph": keep or kwargs.get("create_graph")})


@rule("register_hook")
def _register_hook(func: Any, args: Args, kwargs: Kwargs) -> Any:
    """A hook of the user's on rows gets and gives the true gradient of them."""
    tensor, hook = args
    if isinstance(tensor, PartialTensor):
        return gradients.register_plain_hook(tensor.part, hook)
    rows, dim, size = tensor.rows, tensor.row_dim, world().size

    def on_part(grad: torch.Tensor) -> torch.Tensor | None:
        changed = hook(ShardedTensor(grad / size, rows, dim))
        if changed is None:
            return None
        if isinstance(changed, ShardedTensor) and (changed.rows, changed.row_dim) == (rows, dim):
            return changed.part * size
        whole = changed.whole() if isinstance(changed, GlobalTensor) else changed
        return my_rows(whole, rows, dim) * size

    return gradients.register_plain_hook(tensor.part, on_part)


# ---- hooks on leaves, gradients asked for of plain values -----------------------------------------

_CROSSINGS = frozenset(
    f"{kind.__name__}Backward" for kind in (GatherRows, MeanOverRanks, EnterShard, AverageGradient)
)


def crosses_ranks(outputs: list[torch.Tensor]) -> bool:
    """Tell whether plain `outputs` were made of something that was split over ranks."""
    stack = [output.grad_fn for output in outputs if output.grad_fn is not None]
    seen = set(stack)
    while stack:
        node = stack.pop()
        if node.name() in _CROSSINGS:
            return True
        below = {function for function, _ in node.next_functions if function is not None} - seen
        seen |= below
        stack += below
    return False


def install(world: World) -> Callable[[], None]:
    """Replace the ways to see a gradient; return what puts the originals back."""
    tensor, function, autograd = torch.Tensor, torch.autograd.Function, torch.autograd
    pairs: list[tuple[Any, str, Any]] = [
        (tensor, "register_hook", _sees_gradients(world, tensor.register_hook)),
        (tensor, "register_post_accumulate_grad_hook",
         _sees_gradients(world, tensor.register_post_accumulate_grad_hook)),
        (tensor, "retain_grad", _retains(world, tensor.retain_grad)),
        (function, "apply", classmethod(_applies(world, function.apply.__func__))),  # type: ignore[attr-defined]
        (autograd, "grad", _true_grad(world, autograd.grad)),
    ]  # fmt: skip
    originals = [(home, name, vars(home).get(name)) for home, name, _ in pairs]
    for home, name, stand_in in pairs:
        setattr(home, name, stand_in)

    def undo() -> None:
        for home, name, original in originals:
            if original is None:  # inherited
                delattr(home, name)
            else:
                setattr(home, name, original)

    return undo


def _sees_gradients(world: World, register: Callable[..., Any]) -> Callable[..., Any]:
    def registered(self: torch.Tensor, hook: Callable[..., Any]) -> Any:
        if world.trying is not None:
            world.trying.sees_inside = True
        elif not isinstance(self, GlobalTensor) and self.requires_grad and self.is_leaf:
            gradients.average_first(self)
        return register(self, hook)

    registered.__name__ = register.__name__
    return registered


def _retains(world: World, retain_grad: Callable[..., Any]) -> Callable[..., Any]:
    def retained(self: torch.Tensor) -> None:
        if world.trying is not None:
            world.trying.sees_inside = True
        retain_grad(self)

    retained.__name__ = "retain_grad"
    return retained


def _applies(world: World, apply: Callable[..., Any]) -> Callable[..., Any]:
    def applied(cls: type[torch.autograd.Function], *args: Any, **kwargs: Any) -> Any:
        """A function of the user's that has its own derivative is for the whole batch."""
        if not any(isinstance(arg, GlobalTensor) for arg in args):
            return apply(cls, *args, **kwargs)
        world.gathered[cls.__name__] += 1
        args = tuple(a.whole() if isinstance(a, GlobalTensor) else a for a in args)
        with world.inside(None):  # models it calls (checkpointing) run on the whole batch, too
            return apply(cls, *args, **kwargs)

    return applied


def _true_grad(world: World, grad: Callable[..., Any]) -> Callable[..., Any]:
    def true_grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        roots = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
        wanted = [inputs] if isinstance(inputs, torch.Tensor) else list(inputs)
        found: tuple[Any, ...] = grad(roots, wanted, *args, **kwargs)
        if world.depth or any(isinstance(t, GlobalTensor) for t in (*roots, *wanted)):
            return found
        if not crosses_ranks(roots):
            return found
        return tuple(None if g is None else average(g) for g in found)

    true_grad.__name__ = "grad"
    return true_grad
