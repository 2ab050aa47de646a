"""Models that yield: their items as named tensors, at deploy time and in the replica.

Rule: a generator that was begun here is closed here, whatever happens, so its `finally` blocks run.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

from nbaas.deploy.calling import call, named_outputs
from nbaas.deploy.manifest import Signature, TensorSpec
from nbaas.errors import DeployError

GOLDEN_ITEMS = 4  # of a stream, which may have no end


def golden_key(name: str, item: int = 0) -> str:
    """Return where the golden file holds an output of an item; the first one's as any model's."""
    return f"item{item}:{name}" if item else f"output:{name}"


def generates_only(module: Any) -> bool:
    """Whether a module has no `forward` and a `generate` that yields."""
    import torch

    plain = getattr(type(module), "forward", None) is torch.nn.Module.forward
    return plain and inspect.isgeneratorfunction(getattr(type(module), "generate", None))


@dataclass(frozen=True, slots=True)
class First:
    """A model that yields, called for its first item alone."""

    model: Any

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        stream = self.model(*inputs, **named)
        try:
            return next(stream)
        except StopIteration:
            raise DeployError(
                "the model yields nothing for the example", hint="--example x"
            ) from None
        finally:
            _close(stream)


def items_of(model: Any, signature: Signature, inputs: list[Any]) -> Generator[list[Any]]:
    """Yield the output tensors of each item, in the order of the signature; to be closed.

    Raises: DeployError: an item is not like the first one, or what was called does not yield.
    """
    stream = call(model, inputs, signature.inputs, signature.call)
    if not isinstance(stream, Iterator):
        raise DeployError(f"the model returned a {type(stream).__name__}, it does not yield")
    wanted = [spec.name for spec in signature.outputs]
    try:
        for number, item in enumerate(stream):
            tensors = named_outputs(item)[1]
            if list(tensors) != wanted:
                names = f"{', '.join(tensors)}, not {', '.join(wanted)}"
                raise DeployError(f"item {number} of the stream holds {names}")
            yield list(tensors.values())
    finally:
        _close(stream)


def first_items(
    model: Any, signature: Signature, inputs: list[Any], device: Any = None
) -> list[list[Any]]:
    """Return the outputs of the first items, at most GOLDEN_ITEMS, and close the stream."""
    moved = [x.to(device) for x in inputs] if device is not None else inputs
    stream = items_of(model, signature, moved)
    try:
        return [[y.clone() for y in item] for item in itertools.islice(stream, GOLDEN_ITEMS)]
    finally:
        stream.close()


def side_by_side(
    model: Any, signature: Signature, inputs: list[list[Any]]
) -> list[list[list[Any]]]:
    """Return the first items of streams that run in turns, each with random numbers of its own."""
    import torch

    start = torch.get_rng_state()
    streams = [items_of(model, signature, given) for given in inputs]
    states = [start] * len(streams)
    found: list[list[list[Any]]] = [[] for _ in streams]
    try:
        for _ in range(GOLDEN_ITEMS):
            for i, stream in enumerate(streams):
                torch.set_rng_state(states[i])
                if (item := next(stream, None)) is not None:
                    found[i].append([y.clone() for y in item])
                states[i] = torch.get_rng_state()
    finally:
        for stream in streams:
            stream.close()
    return found


def item_specs(specs: tuple[TensorSpec, ...], items: list[list[Any]]) -> tuple[TensorSpec, ...]:
    """Return `specs` with -1 where the size of a dimension differs from item to item.

    Raises: DeployError: the items differ in dtype or in the number of dimensions.
    """
    opened = []
    for spec, column in zip(specs, zip(*items, strict=True), strict=True):
        kinds = {(str(y.dtype), y.dim()) for y in column}
        if len(kinds) > 1:
            what = " and ".join(sorted(f"{dtype} of {dims} dimensions" for dtype, dims in kinds))
            raise DeployError(f"output {spec.name!r} is {what} from item to item")
        shape = tuple(
            size if len(set(sizes)) == 1 else -1
            for size, sizes in zip(
                spec.shape, zip(*(y.shape for y in column), strict=True), strict=True
            )
        )
        opened.append(replace(spec, shape=shape))
    return tuple(opened)


def _close(stream: Any) -> None:
    if hasattr(stream, "close"):
        stream.close()
