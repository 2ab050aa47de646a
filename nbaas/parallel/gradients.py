"""Gradients become global as backward ends: one flat average per bucket, the loss travelling along.

Rules: after `backward` every gradient of a watched leaf is the mean over ranks, so that clipping,
logging, manual updates and closures see what one device sees; all ranks launch the same buckets in
the same order, because they ran the same graph.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from nbaas.errors import EngineError
from nbaas.parallel.sharded import PartialTensor, corrected
from nbaas.parallel.world import World

BUCKET_BYTES = 16 << 20  # launched while backward goes on; smaller models travel in one piece
_HEADER = 2  # stop vote, position check
_POSITIONS = 1 << 20


class GradientAverager:
    """Watches leaves and averages their gradients over ranks at the end of each backward pass."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.watched: dict[int, weakref.ref[torch.Tensor]] = {}  # by id: tensors compare by value
        self.hooks: list[Any] = []
        self.ready: list[torch.Tensor] = []
        self.ready_bytes = 0
        self.in_flight: list[tuple[list[torch.Tensor], torch.Tensor, Any]] = []
        self.landed: list[torch.Tensor] = []  # the gradients of the last pass
        self.in_backward = False
        self.carried: list[PartialTensor] = []
        self.carrying = False  # a pass that began at a partial value is on
        self.stop_wanted = False  # this rank's vote
        self.stop_agreed = False  # every rank's verdict, after a pass
        self.passes = 0
        self.after_pass: Callable[[], None] | None = None
        self.last_loss: torch.Tensor | None = None

    def watch(self, leaves: Iterable[torch.Tensor]) -> None:
        """Average the gradients of `leaves` from now on; frozen ones are skipped until they thaw."""
        for leaf in leaves:
            key = id(leaf)
            if key in self.watched or not leaf.requires_grad or not leaf.is_leaf:
                continue
            self.watched[key] = weakref.ref(leaf, functools.partial(self._forget, key))
            self.hooks.append(leaf.register_post_accumulate_grad_hook(self._on_ready))

    def _forget(self, key: int, _: Any) -> None:
        self.watched.pop(key, None)

    def release(self) -> None:
        """Leave the gradients of all leaves alone from now on."""
        for hook in self.hooks:
            hook.remove()
        self.hooks, self.watched = [], {}

    def average_now(self, leaves: Iterable[torch.Tensor]) -> None:
        """Average gradients of leaves that were not watched when they were computed."""
        for leaf in leaves:
            if leaf.grad is not None:
                self._launch_or_average_sparse(leaf)
        self._flush([])
        self._land()

    # ---- during backward -----------------------------------------------------------------------

    def _on_ready(self, leaf: torch.Tensor) -> None:
        if not self.in_backward:
            self.in_backward = True
            torch.autograd.Variable._execution_engine.queue_callback(self._finish)
        self._launch_or_average_sparse(leaf)

    def _launch_or_average_sparse(self, leaf: torch.Tensor) -> None:
        grad = leaf.grad
        if grad is None:
            return
        if grad.is_sparse:
            leaf.grad = _average_sparse(grad, self.world)
            return
        if self.ready and (self.ready[-1].dtype, self.ready[-1].device) != (
            grad.dtype,
            grad.device,
        ):
            self._flush([])
        self.ready.append(grad)
        self.ready_bytes += grad.numel() * grad.element_size()
        if self.ready_bytes >= BUCKET_BYTES:
            self._flush([])

    def _flush(self, extras: list[torch.Tensor]) -> None:
        if not self.ready and not extras:
            return
        grads, self.ready, self.ready_bytes = self.ready, [], 0
        kind = grads[0].dtype if grads else torch.float32
        device = grads[0].device if grads else extras[0].device
        pieces = [grad.detach().reshape(-1) for grad in grads]
        pieces += [extra.detach().to(device, kind).reshape(-1) for extra in extras]
        flat = torch.cat(pieces)
        if kind in (torch.bfloat16, torch.float16):
            flat = flat.float()
        handle = self.world.engine.allreduce_async_(
            flat,
            name=self.world.name("gradients", len(self.in_flight), kind, flat.numel()),
            average=True,
        )
        self.in_flight.append((grads, flat, handle))

    def _finish(self) -> None:
        """End of a backward pass: send what is left with the loss, wait, put gradients back."""
        self.in_backward = False
        self.passes += 1
        carried, extras = self._extras()
        self._flush(extras)
        tail = self._land()
        self._read_extras(tail[-sum(extra.numel() for extra in extras) :], carried)
        if self.after_pass is not None:
            self.after_pass()

    def _extras(self) -> tuple[list[PartialTensor], list[torch.Tensor]]:
        header = torch.tensor(
            [float(self.stop_wanted), float(self.world.collectives % _POSITIONS)],
            dtype=torch.float32,
        )
        carried = self.carried
        self.carried = []
        parts = [
            part
            for partial in carried
            for part in (partial.part, partial.ignored)
            if part is not None
        ]
        return carried, [header, *parts]

    def _land(self) -> torch.Tensor:
        """Wait for every bucket and copy it into the gradients; return the last flat tensor."""
        flat = torch.empty(0)
        for grads, flat, handle in self.in_flight:
            self.world.engine.wait(handle)
            if not grads:
                continue
            sizes = [grad.numel() for grad in grads]
            averaged = flat.narrow(0, 0, sum(sizes)).split(sizes)
            with torch.no_grad():
                torch._foreach_copy_(
                    [grad.detach() for grad in grads],
                    [piece.view(grad.shape) for piece, grad in zip(averaged, grads, strict=True)],
                )
        self.landed = [grad for grads, _, _ in self.in_flight for grad in grads]
        self.in_flight = []
        return flat

    def _read_extras(self, extras: torch.Tensor, carried: list[PartialTensor]) -> None:
        numbers = extras.to("cpu", torch.float64)
        position = float((self.world.collectives - 1) % _POSITIONS)
        if abs(float(numbers[1]) - position) > 0.5:  # noqa: PLR2004 - float32 of a whole number
            raise EngineError(
                f"rank {self.world.rank} is at collective {position:.0f}, "
                f"the mean of all ranks is {numbers[1]:.1f}",
                hint="the cell took another branch on another rank",
            )
        self.stop_agreed = bool(numbers[0] > 0)
        at = _HEADER
        for index, partial in enumerate(carried):
            size = partial.part.numel()
            value = extras[at : at + size].to(partial.part.device, partial.part.dtype)
            at += size
            factor = 1.0
            if partial.ignored is not None:
                ignored = round(float(numbers[at]) * self.world.size)
                at += 1
                if ignored:
                    factor = corrected(partial.elements, ignored)
                    if index == 0:
                        torch._foreach_mul_([grad.detach() for grad in self.landed], factor)
            partial.value = (
                value.view(partial.part.shape) * factor
                if factor != 1.0
                else value.view(partial.part.shape)
            )
            if factor != 1.0:
                partial.part = partial.part.detach() * factor
            partial.ignored = None
        if carried:
            self.last_loss = carried[0].value

    def any_gradient(self) -> bool:
        leaves = (reference() for reference in list(self.watched.values()))
        return any(leaf is not None and leaf.grad is not None for leaf in leaves)


def _no_averager() -> GradientAverager | None:
    return None


averager_of: Callable[[], GradientAverager | None] = _no_averager  # set by the session


@contextlib.contextmanager
def carrying(root: PartialTensor) -> Iterator[None]:
    """Send the values of `root` and of what it was made of along with the gradients of its pass."""
    averager = averager_of()
    if averager is None:
        yield
        return
    if root.ignored is not None and averager.any_gradient():
        # A correction after the pass would scale what was accumulated before it, too.
        root.exact()
    averager.carried, averager.carrying = _unknown(root), True
    try:
        yield
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
        if partial.value is None and partial.ignored is None and partial.part.dim() == 0:
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
