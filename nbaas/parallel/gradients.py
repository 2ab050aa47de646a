"""Gradients become global as backward ends: one flat average per bucket, the loss travelling along.

Rules: after `backward` every gradient of a watched leaf is the mean over ranks, so that clipping,
logging, manual updates and closures see what one device sees; all ranks launch the same buckets in
the same order, because they ran the same graph.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn.parameter import UninitializedParameter

from nbaas.errors import EngineError
from nbaas.parallel.sharded import PartialTensor, corrected
from nbaas.parallel.world import World, average

BUCKET_BYTES = 16 << 20  # launched while backward goes on; smaller models travel in one piece
register_plain_hook = torch.Tensor.register_hook
_register_after = torch.Tensor.register_post_accumulate_grad_hook
_HEADER = 3  # stop vote, checkpoint vote, position check
_POSITIONS = 1 << 20


def is_lazy(leaf: torch.Tensor) -> bool:
    """Tell whether a parameter has yet to learn its shape from the first batch."""
    return isinstance(leaf, UninitializedParameter)


class Bucket:
    """A flat buffer that the gradients of some leaves travel in, with room for `extras` numbers."""

    def __init__(self, grads: list[torch.Tensor], extras: int) -> None:
        sizes = [grad.numel() for grad in grads]
        # Half precision is summed in float32.
        kind = torch.promote_types(grads[0].dtype, torch.float32) if grads else torch.float64
        device = grads[0].device if grads else torch.device("cpu")
        self.flat = torch.empty(sum(sizes) + extras, dtype=kind, device=device)
        pieces = self.flat[: sum(sizes)].split(sizes) if sizes else ()
        self.views = [piece.view(g.shape) for piece, g in zip(pieces, grads, strict=True)]
        self.tail = self.flat[sum(sizes) :]
        # On the CPU numbers are written and read through numpy: a tensor costs microseconds.
        self.numbers = self.tail.numpy() if device.type == "cpu" else None
        self.label = f"{kind}.{self.flat.numel()}"

    def fill(self, grads: list[torch.Tensor], extras: list[float]) -> None:
        if grads:
            torch._foreach_copy_(self.views, grads)
        if extras and self.numbers is not None:
            self.numbers[:] = extras
        elif extras:
            self.tail.copy_(torch.tensor(extras, dtype=torch.float64))

    def read(self) -> list[float]:
        """Return the numbers that travelled along."""
        numbers: list[float] = (self.tail if self.numbers is None else self.numbers).tolist()
        return numbers


class GradientAverager:
    """Watches leaves and averages their gradients over ranks at the end of each backward pass."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.watched: dict[int, weakref.ref[torch.Tensor]] = {}  # by id: tensors compare by value
        self.hooks: list[Any] = []
        self.arrived: list[torch.Tensor] = []  # leaves with a new gradient, in this pass
        self.arrived_bytes = 0
        self.ready: list[torch.Tensor] = []  # those that fit into the next bucket
        self.in_flight: list[tuple[list[torch.Tensor], Bucket, Any]] = []
        self.buckets: dict[Any, Bucket] = {}
        self.landed: list[torch.Tensor] = []  # the gradients of the last pass
        self.in_backward = False
        self.carried: list[PartialTensor] = []
        self.carrying = False  # a pass that began at a partial value is on
        self.stop_wanted = False  # this rank's vote
        self.stop_agreed = False  # every rank's verdict, after a pass
        self.save_wanted = False  # this rank's vote for a checkpoint
        self.save_agreed = False
        self._save_voted = False
        self.after_pass: Callable[[], None] | None = None
        self.last_loss: Any = None  # a number, or a tensor without dimensions

    def watch(self, leaves: Iterable[torch.Tensor]) -> None:
        """Average the gradients of `leaves` from now on; frozen ones are skipped until they thaw."""
        new = [
            leaf for leaf in leaves
            if id(leaf) not in self.watched and not is_lazy(leaf)
            and leaf.requires_grad and leaf.is_leaf
        ]  # fmt: skip
        large = sum(leaf.numel() * leaf.element_size() for leaf in new) > BUCKET_BYTES
        # A list's own method is the quickest hook; only large models launch within backward.
        on_ready = self._on_ready if large else self.arrived.append
        for leaf in new:
            key = id(leaf)
            self.watched[key] = weakref.ref(leaf, functools.partial(self._forget, key))
            if leaf._backward_hooks or leaf._post_accumulate_grad_hooks:
                average_first(leaf)  # of before the session
            self.hooks.append(_register_after(leaf, on_ready))

    def _forget(self, key: int, _: Any) -> None:
        self.watched.pop(key, None)

    def release(self) -> None:
        """Leave the gradients of all leaves alone from now on."""
        for hook in self.hooks:
            hook.remove()
        for handle in _averaging:
            handle.remove()
        _averaging.clear()
        self.hooks, self.watched, self.buckets = [], {}, {}

    def average_now(self, leaves: Iterable[torch.Tensor]) -> None:
        """Average gradients of leaves that were not watched when they were computed."""
        for leaf in leaves:
            self._add(leaf)
        self._launch([])
        self._land()

    # ---- during backward -------------------------------------------------------------------------

    def begin(self) -> None:
        """Start a pass; called by what stands in for `torch.autograd.backward`."""
        self.in_backward = True

    def _on_ready(self, leaf: torch.Tensor) -> None:
        self.arrived.append(leaf)
        grad = leaf.grad
        if grad is not None:
            self.arrived_bytes += grad.numel() * grad.element_size()
            if self.arrived_bytes >= BUCKET_BYTES and self.in_backward:
                self._take_arrived()
                self._launch([])

    def _take_arrived(self) -> None:
        leaves = self.arrived.copy()
        self.arrived.clear()
        self.arrived_bytes = 0
        for leaf in leaves:
            self._add(leaf)

    def _add(self, leaf: torch.Tensor) -> None:
        grad = leaf.grad
        if grad is None:
            return
        if grad.is_sparse:
            leaf.grad = _average_sparse(grad, self.world)
            return
        if self.ready:
            other = self.ready[-1].grad
            if other is not None and (other.dtype != grad.dtype or other.device != grad.device):
                self._launch([])
        self.ready.append(leaf)

    def _launch(self, extras: list[float]) -> None:
        if not self.ready and not extras:
            return
        leaves, self.ready = self.ready, []
        grads = [leaf.grad for leaf in leaves if leaf.grad is not None]
        if grads and grads[0].requires_grad:
            grads = [grad.detach() for grad in grads]
        key = (len(self.in_flight), len(extras), *map(id, leaves))
        bucket = self.buckets.get(key)
        if bucket is None or any(
            v.shape != g.shape or v.device != g.device
            for v, g in zip(bucket.views, grads, strict=True)
        ):
            bucket = self.buckets[key] = Bucket(grads, len(extras))
        bucket.fill(grads, extras)
        name = self.world.name("gradients", len(self.in_flight), bucket.label)
        handle = self.world.engine.allreduce_async_(bucket.flat, name=name, average=True)
        self.in_flight.append((grads, bucket, handle))

    def finish(self) -> None:
        """End a backward pass: send what is left with the loss, wait, put gradients back."""
        self.in_backward = False
        self._take_arrived()
        carried, self.carried = self.carried, []
        if not (carried or self.ready or self.in_flight):
            return
        self._save_voted = self.save_wanted  # a signal may set it again while this is under way
        extras = [float(self.stop_wanted), float(self._save_voted)]
        extras.append(float(self.world.collectives % _POSITIONS))
        for partial in carried:
            extras.append(partial.part.item())
            extras.append(float(partial.ignored or 0.0))
        self._launch(extras)
        last = self._land()
        if last is not None:
            self._read_extras(last.read(), carried)
        if self.after_pass is not None:
            self.after_pass()

    def _land(self) -> Bucket | None:
        """Wait for every bucket and copy it into the gradients; return the last one."""
        bucket = None
        self.landed = []
        for grads, bucket, handle in self.in_flight:
            self.world.engine.wait(handle)
            if grads:
                torch._foreach_copy_(grads, bucket.views)
                self.landed += grads
        self.in_flight = []
        return bucket

    def _read_extras(self, numbers: list[float], carried: list[PartialTensor]) -> None:
        position = (self.world.collectives - 1) % _POSITIONS
        if abs(numbers[2] - position) > 0.5:  # noqa: PLR2004 - a whole number, perhaps as float32
            raise EngineError(
                f"rank {self.world.rank} is at collective {position}, "
                f"the mean of all ranks is {numbers[2]:.1f}",
                hint="the cell took another branch on another rank",
            )
        self.stop_agreed = numbers[0] > 0
        if numbers[1] > 0:
            self.save_agreed = True
            self.save_wanted = self.save_wanted and not self._save_voted
        for index, partial in enumerate(carried):
            value, ignored = numbers[_HEADER + 2 * index : _HEADER + 2 * index + 2]
            if partial.ignored is not None:
                factor = corrected(partial.elements, round(ignored * self.world.size))
                partial.ignored = None
                if factor != 1.0:
                    value *= factor
                    partial.part = partial.part.detach() * factor
                    if index == 0:
                        torch._foreach_mul_(self.landed, factor)
            partial.number = value
        if carried:
            self.last_loss = carried[0].number

    def any_gradient(self) -> bool:
        leaves = (reference() for reference in list(self.watched.values()))
        return any(leaf is not None and leaf.grad is not None for leaf in leaves)


_averaging: list[Any] = []  # handles of the averages that come before the user's hooks


def average_first(leaf: torch.Tensor) -> None:
    """Make the first hook of `leaf` an average over ranks: hooks after it see what one device sees."""
    hooks: Any = leaf._backward_hooks
    if hooks and average in hooks.values():
        return
    _averaging.append(register_plain_hook(leaf, average))
    hooks = leaf._backward_hooks
    others = [(key, hook) for key, hook in hooks.items() if hook is not average]
    ours = [(key, hook) for key, hook in hooks.items() if hook is average]
    # Taken out and put in again: the engine reads the order in which keys were set.
    hooks.clear()
    hooks.update(ours + others)


def _no_averager() -> GradientAverager | None:
    return None


averager_of: Callable[[], GradientAverager | None] = _no_averager  # set by the session


def backward_carrying(root: PartialTensor, run: Callable[[], None]) -> None:
    """Run the backward pass of `root`; its value, and those it was made of, come with the gradients."""
    averager = averager_of()
    if averager is None:
        run()
        return
    if root.ignored is not None and averager.any_gradient():
        # A correction after the pass would scale what was accumulated before it, too.
        root.exact()
    averager.carried, averager.carrying = _unknown(root), True
    try:
        run()
    finally:
        averager.carried, averager.carrying = [], False
        root.sources = ()


def _unknown(root: PartialTensor) -> list[PartialTensor]:
    """Return `root` and the partial values below it, once each, in an order all ranks share."""
    found: dict[int, PartialTensor] = {id(root): root}
    stack = [*root.sources]
    while stack:
        partial = stack.pop()
        if id(partial) in found:
            continue
        if not partial.is_known and partial.ignored is None and partial.part.numel() == 1:
            found[id(partial)] = partial
        stack.extend(partial.sources)
        partial.sources = ()
    return list(found.values())


def _average_sparse(grad: torch.Tensor, world: World) -> torch.Tensor:
    """Return the mean of sparse gradients: their entries of all ranks side by side."""
    from nbaas.parallel.rows import Rows

    local = grad.coalesce()
    counts = tuple(world.gather_objects(int(local._nnz())))
    rows = Rows(counts, world.rank)
    indices = world.gather(local.indices().t().contiguous(), rows, 0).t()
    values = world.gather(local.values(), rows, 0) / world.size
    return torch.sparse_coo_tensor(indices, values, grad.shape).coalesce()
