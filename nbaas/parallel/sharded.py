"""Tensors that hold a rank's part and answer as the whole.

`ShardedTensor` holds rows of a global batch; `PartialTensor` holds this rank's part of a sum over the
batch (a loss, a count), whose value is the mean of the parts over ranks.  Both are `torch.Tensor`s.

Rules: an operation in the table of `rules` stays sharded or partial; any other gathers the global
value, differentiably, and runs as usual: never wrong, only slower.  A number read from either
(`item`, `float`, `bool`, a comparison, formatting) is the global number, on every rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from nbaas.parallel import trees
from nbaas.parallel.rows import Rows
from nbaas.parallel.world import GatherRows, MeanOverRanks, entering, world

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}  # by name of the function; filled by nbaas.parallel.rules

# Answered by the wrapper itself: it has the global shape.
_META = frozenset(
    """size dim ndimension numel nelement __len__ is_floating_point is_complex element_size is_same_size
    get_device is_signed __hash__ get:shape get:ndim get:dtype get:device get:layout get:is_cuda
    get:is_sparse get:itemsize get:nbytes get:is_quantized get:is_meta get:names get:is_mkldnn
    get:is_nested get:is_cpu""".split()  # noqa: SIM905 - a list of forty strings reads worse
)


def function_name(func: Any) -> str:
    """Return 'add' for torch.add and Tensor.add alike, 'get:shape' for the getter of a property."""
    name = getattr(func, "__name__", "") or str(func)
    if name in ("__get__", "__set__"):
        prefix = "get:" if name == "__get__" else "set:"
        return prefix + getattr(func.__self__, "__name__", "?")
    return name


_names: dict[Any, str] = {}


class GlobalTensor(torch.Tensor):
    """Common base: where an operation on global values is decided."""

    part: Any  # what this rank holds

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = _names.get(func)
        if name is None:
            name = _names[func] = function_name(func)
        kwargs = kwargs or {}
        if name in _META:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        rule = RULES.get(name)
        if rule is not None:
            result = rule(func, args, kwargs)
            if result is not NotImplemented:
                return result
        return run_gathered(name, func, args, kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # Reached only from C++ that does not ask __torch_function__, such as torch.tensor([loss]).
        world().gathered[str(func)] += 1
        return func(
            *trees.map_tensors(_detached_whole, args),
            **trees.map_tensors(_detached_whole, kwargs or {}),
        )

    def whole(self) -> torch.Tensor:
        """Return the global value as a plain tensor on every rank; every rank must call it."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Known:
    """A gathered value, and the versions that tell whether a write has come since."""

    part: torch.Tensor
    part_version: int
    value: torch.Tensor
    value_version: int

    def now(self) -> Known:
        return Known(self.part, version_of(self.part), self.value, version_of(self.value))


def version_of(tensor: torch.Tensor) -> int:
    """Return how often `tensor` was written in place; tensors of inference mode do not count."""
    return 0 if tensor.is_inference() else tensor._version


class ShardedTensor(GlobalTensor):
    """Rows of a global batch along `dim`; `part` holds this rank's rows, perhaps with padding."""

    rows: Rows
    row_dim: int
    held: torch.Tensor  # see `part`
    known: Known | None

    @staticmethod
    def __new__(
        cls: type[ShardedTensor], part: torch.Tensor, rows: Rows, dim: int = 0
    ) -> ShardedTensor:
        shape = list(part.shape)
        shape[dim] = rows.total
        self = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=part.dtype, device=part.device)
        self.held = part
        self.rows = rows
        self.row_dim = dim
        self.known = None
        return self

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    @property
    def part(self) -> torch.Tensor:
        """This rank's rows, with what was written into views of the gathered value."""
        known = self.known
        if known is not None and version_of(known.value) != known.value_version:
            with torch.no_grad():
                self.held.copy_(my_rows(known.value, self.rows, self.row_dim))
            self.known = known.now()
        return self.held

    @part.setter
    def part(self, rows: torch.Tensor) -> None:
        self.held = rows

    @property
    def valid(self) -> torch.Tensor:
        """The local rows without padding."""
        if self.part.shape[self.row_dim] == self.rows.valid:
            return self.part
        return self.part.narrow(self.row_dim, 0, self.rows.valid)

    def whole(self) -> torch.Tensor:
        if self.part.requires_grad and torch.is_grad_enabled():
            return GatherRows.apply(self.part, self.rows, self.row_dim)
        part = self.part
        known = self.known
        if known is None or known.part is not part or version_of(part) != known.part_version:
            value = world().gather(part, self.rows, self.row_dim)
            known = self.known = Known(part, version_of(part), value, version_of(value))
        return known.value


class PartialTensor(GlobalTensor):
    """This rank's part of a value over the batch; the value is the mean of `part` over ranks.

    `value`, once known (it travels with the gradients of a backward pass), costs nothing to read.
    `ignored` is set where the mean was taken over `elements` terms before it was known how many of
    them other ranks ignore: the value is then the mean of `part` times elements / (elements - ignored).
    """

    part: torch.Tensor
    number: float | None  # the value, where it came as a number
    held: torch.Tensor | None  # the value, where it is a tensor
    sources: tuple[PartialTensor, ...]  # partial values this one was made of, for their values
    ignored: int | None  # terms ignored on this rank
    elements: int
    label: str  # the name autograd gives the operation on one device

    @staticmethod
    def __new__(cls: type[PartialTensor], part: torch.Tensor) -> PartialTensor:
        self = torch.Tensor._make_wrapper_subclass(
            cls, part.shape, dtype=part.dtype, device=part.device
        )
        self.part = part
        self.number = self.held = None
        self.sources = ()
        self.ignored = None
        self.elements = 0
        self.label = ""
        return self

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def whole(self) -> torch.Tensor:
        if self.part.requires_grad and torch.is_grad_enabled():
            return MeanOverRanks.apply(self.exact().part)
        return self.settled()

    @property
    def is_known(self) -> bool:
        return self.number is not None or self.held is not None

    @property
    def value(self) -> torch.Tensor | None:
        """The value, None where it is not known yet."""
        if self.held is None and self.number is not None:
            self.held = torch.tensor(self.number, dtype=self.part.dtype, device=self.part.device)
        return self.held

    @value.setter
    def value(self, value: torch.Tensor | None) -> None:
        self.held, self.number = value, None

    def exact(self) -> PartialTensor:
        """Return self with the ignored terms of all ranks counted; a collective if there may be any."""
        if self.ignored is not None:
            mine = torch.tensor(self.ignored, dtype=torch.float64, device=self.part.device)
            everyone = round(float(world().mean(mine)) * world().size)
            self.ignored = None
            if everyone:
                self.part = self.part * corrected(self.elements, everyone)
        return self

    def settled(self) -> torch.Tensor:
        """Return the value, detached; a collective on the first call only."""
        value = self.value
        if value is None:
            value = self.held = world().mean(self.exact().part)
        return value


def corrected(elements: int, ignored: int) -> float:
    """Return the factor from a mean over all elements to one over those that are not ignored."""
    return elements / (elements - ignored) if elements > ignored else float("nan")


def whole(value: torch.Tensor) -> torch.Tensor:
    return value.whole() if isinstance(value, GlobalTensor) else value


def _detached_whole(value: torch.Tensor) -> torch.Tensor:
    if isinstance(value, PartialTensor):
        return value.settled()
    with torch.no_grad():
        return whole(value).detach()


def run_gathered(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run `func` on global values, on every rank; what it wrote in place is put back into the rows."""
    world().gathered[name] += 1
    plain_args = trees.map_tensors(whole, args)
    plain_kwargs = trees.map_tensors(whole, kwargs)
    if writes_in_place(name) and plain_args and getattr(plain_args[0], "grad_fn", None) is not None:
        # autograd refuses to write into what a function of ours returned
        plain_args = (plain_args[0].clone(), *plain_args[1:])
    result = func(*plain_args, **plain_kwargs)
    if writes_in_place(name) and args and isinstance(args[0], GlobalTensor):
        return put_back(args[0], plain_args[0], result)
    return result


_NOT_IN_PLACE = frozenset(["__invert__", "__index__", "__int__"])


def writes_in_place(name: str) -> bool:
    """Tell whether the function of this name changes its first argument."""
    if name.endswith("__"):
        return name == "__setitem__" or (name.startswith("__i") and name not in _NOT_IN_PLACE)
    return name.endswith("_")


def put_back(target: GlobalTensor, written: torch.Tensor, result: Any) -> Any:
    if isinstance(target, ShardedTensor):
        mine, part = my_rows(entering(written), target.rows, target.row_dim), target.part
        if mine.shape == part.shape and mine.dtype == part.dtype:
            part.copy_(mine)  # in place: views of it, and what it is a view of, see the write
        else:
            target.part = mine
        target.known = None
    else:
        target.part = written
        target.value = written.detach()  # type: ignore[attr-defined]
    return target if result is written or result is None else result


def my_rows(full: torch.Tensor, rows: Rows, dim: int = 0) -> torch.Tensor:
    """Return this rank's rows of a replicated tensor, one row of padding where it has none."""
    if rows.valid:
        return full.narrow(dim, rows.offset, rows.valid)
    return full.narrow(dim, 0, 1)


def shard(full: torch.Tensor, rows: Rows, dim: int = 0) -> ShardedTensor:
    """Return a replicated tensor as a sharded one; nothing is sent."""
    return ShardedTensor(my_rows(full, rows, dim), rows, dim)
