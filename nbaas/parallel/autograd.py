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
    part = args[0].part
    # Writes into .data do not count as versions, by which a gathered value is known to be old.
    data = func(part) if part.requires_grad else part.detach()
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
    """Start autograd at this rank's part; gradients are averaged when the pass ends."""
    root, *rest = args
    options = dict(zip(("gradient", "retain_graph", "create_graph", "inputs"), rest, strict=False))
    options |= kwargs
    gradient, inputs = options.pop("gradient", None), options.pop("inputs", None)
    if isinstance(inputs, torch.Tensor):
        inputs = [inputs]
    if inputs is not None:
        options["inputs"] = [t.part if isinstance(t, GlobalTensor) else t for t in inputs]
    if isinstance(root, ShardedTensor):
        if gradient is None:
            raise RuntimeError("grad can be implicitly created only for scalar outputs")
        gradient = _cut(gradient, root) * world().size
        torch.autograd.backward(root.part, gradient, **options)
    elif isinstance(root, PartialTensor):
        gradient = gradient.whole() if isinstance(gradient, GlobalTensor) else gradient
        gradients.backward_carrying(
            root, lambda: torch.autograd.backward(root.part, gradient, **options)
        )
    else:  # a plain root, a gradient or inputs that are rows
        gradient = gradient.whole() if isinstance(gradient, GlobalTensor) else gradient
        torch.autograd.backward(root, gradient, **options)


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
    with world().inside(world().rows):  # what is plain here are parts: nothing to average yet
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


def install(world: World, averager: gradients.GradientAverager) -> Callable[[], None]:
    """Replace the ways to see a gradient; return what puts the originals back."""
    tensor, function, autograd = torch.Tensor, torch.autograd.Function, torch.autograd
    pairs: list[tuple[Any, str, Any]] = [
        (tensor, "register_hook", _sees_gradients(world, tensor.register_hook)),
        (tensor, "register_post_accumulate_grad_hook",
         _sees_gradients(world, tensor.register_post_accumulate_grad_hook)),
        (tensor, "retain_grad", _retains(world, tensor.retain_grad)),
        (function, "apply", classmethod(_applies(world, function.apply.__func__))),  # type: ignore[attr-defined]
        (autograd, "grad", _true_grad(world, autograd.grad)),
        (tensor, "backward", _quick_backward(tensor.backward)),
        (autograd, "backward", _whole_pass(world, averager, autograd.backward)),
    ]  # fmt: skip
    if world.size == 1:
        pairs = pairs[-1:]  # for the loss
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


def _quick_backward(original: Callable[..., Any]) -> Callable[..., Any]:
    def backward(self: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """Spare `loss.backward()` of a batch the way through __torch_function__."""
        if type(self) is PartialTensor and not args and not kwargs:
            part = self.part
            gradients.backward_carrying(self, lambda: torch.autograd.backward(part))
        else:
            original(self, *args, **kwargs)

    backward.__name__ = "backward"
    return backward


def _whole_pass(
    world: World, averager: gradients.GradientAverager, original: Callable[..., Any]
) -> Callable[..., Any]:
    def backward(tensors: Any, grad_tensors: Any = None, *args: Any, **kwargs: Any) -> None:
        """Run a pass, average what it left; a pass within a pass (checkpointing) is a part of it."""
        if not isinstance(tensors, torch.Tensor) or isinstance(tensors, GlobalTensor):
            roots = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
            if any(isinstance(root, GlobalTensor) for root in roots):
                _backward_of_several(roots, grad_tensors, args, kwargs)
                return
            tensors = roots
        if world.recomputing:
            original(tensors, grad_tensors, *args, **kwargs)
            return
        averager.begin()
        before = world.depth, world.rows
        world.depth, world.rows, world.recomputing = world.depth + 1, world.last_rows, True
        try:
            original(tensors, grad_tensors, *args, **kwargs)
        finally:
            world.depth, world.rows = before
            world.recomputing = averager.in_backward = False
        averager.finish()
        if not averager.carrying and isinstance(tensors, torch.Tensor) and tensors.dim() == 0:
            averager.last_loss = tensors.detach()

    backward.__name__ = "backward"
    return backward


def _backward_of_several(roots: list[Any], seeds: Any, args: Args, kwargs: Kwargs) -> None:
    """torch.autograd.backward([a, b]): one root at a time, whose gradients add up."""
    options = dict(zip(("retain_graph", "create_graph"), args, strict=False)) | kwargs
    options.pop("grad_variables", None)
    seeds = [seeds] if isinstance(seeds, torch.Tensor) else list(seeds or [None] * len(roots))
    for index, (root, seed) in enumerate(zip(roots, seeds, strict=True)):
        keep = index + 1 < len(roots) or options.get("retain_graph") or None
        root.backward(seed, **{**options, "retain_graph": keep or options.get("create_graph")})
