"""A trial run of a module: what came out, what it left behind, and that nothing of it remains.

Rules: parameters that are zero are opened (a gate that starts closed hides what is behind it), random
draws are still, and buffers, attributes and generators are as before when the trial is over.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from nbaas.parallel import trees
from nbaas.parallel.keepsakes import TORCH_OWN, Slot, kept_since, slots_with_tensors

MOST_COPIED = 1 << 30  # bytes of parameters that a trial works on copies of
_CONTAINERS = (list, dict, set, deque)


@dataclass(slots=True)
class Trial:
    """What one trial run gave: outputs (detached), and all that it changed besides."""

    outputs: Any = None
    kept: dict[Slot, list[torch.Tensor]] = field(default_factory=dict)
    numbers: dict[Slot, Any] = field(default_factory=dict)  # attributes that changed
    state: dict[str, torch.Tensor] = field(default_factory=dict)  # buffers; changed parameters
    error: str = ""
    found: frozenset[str] = frozenset()  # see Watch
    tainted: tuple[bool, ...] = ()  # by tensor of `outputs`, then `kept`: made of the batch

    @property
    def tensors(self) -> list[torch.Tensor]:
        return trees.tensors(self.outputs) + [t for held in self.kept.values() for t in held]


class Snapshot:
    """A module's buffers and attributes, and the generators, as they were."""

    def __init__(self, module: nn.Module) -> None:
        self.parts = list(module.modules())
        self.attributes = [dict(vars(part)) for part in self.parts]
        self.containers = [
            (value, value.copy())
            for attributes in self.attributes
            for name, value in attributes.items()
            if name not in TORCH_OWN and isinstance(value, _CONTAINERS)
        ]
        self.buffers = [
            {k: (v, None if v is None else v.clone()) for k, v in part._buffers.items()}
            for part in self.parts
        ]
        self.rng = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None

    def put_back(self) -> None:
        for part, attribute, kept in zip(self.parts, self.attributes, self.buffers, strict=True):
            vars(part).clear()
            vars(part).update(attribute)
            part._buffers.clear()
            part._buffers.update({name: buffer for name, (buffer, _) in kept.items()})
            with torch.no_grad():
                for buffer, value in kept.values():
                    if buffer is not None and value is not None:
                        buffer.copy_(value)
        for container, content in self.containers:
            container.clear()
            container.extend(content) if hasattr(container, "extend") else container.update(content)
        torch.set_rng_state(self.rng)
        if self.cuda is not None:
            torch.cuda.set_rng_state_all(self.cuda)


@contextlib.contextmanager
def restored(module: nn.Module) -> Iterator[None]:
    """Undo what a call does to buffers, attributes and frozen parameters of the module."""
    snapshot = Snapshot(module)
    # Keras keeps moving averages in parameters that are not trained.
    frozen = [(p, p.detach().clone()) for p in module.parameters() if not p.requires_grad]
    try:
        yield
    finally:
        snapshot.put_back()
        with torch.no_grad():
            for parameter, value in frozen:
                if parameter.shape == value.shape:
                    parameter.copy_(value)


@contextlib.contextmanager
def on_copies(module: nn.Module) -> Iterator[None]:
    """Let the module work on copies of its parameters, those that are zero opened.

    The storage is swapped, so that graphs which hold the parameters see no write.
    """
    parameters = [p for p in module.parameters() if type(p.data) is torch.Tensor]
    copied = sum(p.numel() * p.element_size() for p in parameters) <= MOST_COPIED
    originals = []
    for parameter in parameters:
        data = parameter.data
        closed = data.is_floating_point() and data.numel() > 0 and not bool(data.any())
        if closed or copied:
            originals.append((parameter, data))
            parameter.data = _opened(data) if closed else data.clone()
    try:
        yield
    finally:
        for parameter, data in originals:
            parameter.data = data


def _opened(zeros: torch.Tensor) -> torch.Tensor:
    """Return small values in place of zeros, the same on every rank."""
    places = torch.arange(zeros.numel(), device=zeros.device, dtype=torch.float32)
    return (0.1 * torch.cos(places + 0.5)).to(zeros.dtype).view(zeros.shape)


def left_behind(parts: list[nn.Module], versions: dict[str, int]) -> dict[str, torch.Tensor]:
    """Return copies of all buffers, and of the parameters written in place, by name."""
    root = parts[0]
    state = {name: buffer.detach().clone() for name, buffer in root.named_buffers()}
    for name, parameter in root.named_parameters():
        if parameter._version != versions.get(name, parameter._version):
            state[name] = parameter.detach().clone()
    return state


def changed_numbers(parts: list[nn.Module], before: list[dict[str, Any]]) -> dict[Slot, Any]:
    """Return the numbers and strings in attributes that are others than before."""
    return {
        (index, name): value
        for index, (part, old) in enumerate(zip(parts, before, strict=True))
        for name, value in vars(part).items()
        if isinstance(value, (int, float, str)) and value != old.get(name)
    }


def run_trial(module: nn.Module, call: Any, args: Any, kwargs: Any, *, watched: bool) -> Trial:
    """Return what `call(module, *args, **kwargs)` gives; an error of it is part of the answer.

    Where `watched`, what the run does with values of its arguments is found out.
    """
    parts = list(module.modules())
    watch = Watch(trees.tensors((args, kwargs)) + [
        t for held in slots_with_tensors(parts).values() for t in held
        if not isinstance(t, nn.Parameter)
    ])  # fmt: skip
    with restored(module), on_copies(module):
        before = [dict(vars(part)) for part in parts]
        held = slots_with_tensors(parts)
        versions = {name: p._version for name, p in module.named_parameters()}
        try:
            with watch, Conversions(watch) if watched else contextlib.nullcontext():
                outputs = call(module, *args, **kwargs)
        except Exception as broken:  # noqa: BLE001 - the user's own error comes up in the real call
            return Trial(error=f"{type(broken).__name__}: {broken}")
        kept = kept_since(held, parts)
        every = trees.tensors(outputs) + [t for new in kept.values() for t in new]
        return Trial(
            trees.map_tensors(lambda t: t.detach(), outputs),
            {slot: [t.detach() for t in new] for slot, new in kept.items()},
            changed_numbers(parts, before),
            left_behind(parts, versions),
            found=frozenset(watch.found),
            tainted=tuple(bool(watch.level(t)) for t in every),
        )


_RANDOM = ("rand", "normal", "bernoulli", "dropout", "multinomial", "uniform", "exponential",
           "poisson")  # fmt: skip
_SIZING = frozenset(["nonzero", "masked_select", "_unique", "_unique2", "unique_dim",
                     "unique_consecutive", "repeat_interleave"])  # fmt: skip
_SUMS = frozenset(["sum", "nansum", "count_nonzero", "dot", "vdot"])
SIZES, READS, DECIDES, DIVIDES = "sizes", "reads", "decides", "divides"
_OF_BATCH, _OF_A_SUM = 1, 2


class Watch(TorchDispatchMode):
    """Makes every random draw a constant, and follows the values of the batch through the run.

    `found` then holds SIZES where shapes follow values, READS where a number of the batch is read,
    DECIDES where a branch is taken on one that parts of the batch can agree on (all, any, a mean),
    DIVIDES where a sum is divided by one of the batch.
    """

    def __init__(self, inputs: list[torch.Tensor]) -> None:
        super().__init__()
        self.levels: Any = WeakIdKeyDictionary()
        self.found: set[str] = set()
        self.given = {id(t) for t in inputs if not t.dim()}
        self.checking = False  # within a function that reads values only to refuse bad ones
        for tensor in inputs:
            self.levels[tensor] = _OF_BATCH

    def level(self, tensor: Any) -> int:
        return int(self.levels.get(tensor, 0)) if isinstance(tensor, torch.Tensor) else 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        level = max((self.level(t) for t in trees.tensors((args, kwargs))), default=0)
        if level and not self.checking:
            self._note(name, args, level)
        result = _stilled(name, func, args, kwargs)
        if level:
            for leaf in trees.tensors(result):
                summed = name in _SUMS and not leaf.dim()
                self.levels[leaf] = _OF_A_SUM if summed else level
        return result

    def _note(self, name: str, args: Any, level: int) -> None:
        if name == "_local_scalar_dense":
            decides = args[0].dtype is torch.bool and level == _OF_BATCH
            self.found.add(DECIDES if decides else READS)
        elif name in _SIZING or (name == "index" and _has_mask(args[1])):
            self.found.add(SIZES)
        elif name in ("div", "div_", "reciprocal"):
            below = args[-1]
            if self.level(below) and not below.dim() and id(below) not in self.given:
                self.found.add(DIVIDES)


def _has_mask(indices: Any) -> bool:
    return any(
        isinstance(i, torch.Tensor) and i.dtype in (torch.bool, torch.uint8) for i in indices
    )


class Conversions(TorchFunctionMode):
    """Notes where values leave torch as lists or arrays: sizes may follow from them."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in ("tolist", "numpy", "__array__") and self.watch.level(args[0]):
            self.watch.found.add(SIZES)
        if name == "one_hot" and (args[1] if len(args) > 1 else kwargs.get("num_classes", -1)) > 0:
            self.watch.checking = True
        try:
            return func(*args, **kwargs)
        finally:
            self.watch.checking = False


def _stilled(name: str, func: Any, args: Any, kwargs: Any) -> Any:
    """Return the result, a constant where `func` draws random numbers: two calls can be compared."""
    if not any(word in name for word in _RANDOM):
        return func(*args, **kwargs)
    if "native_dropout" in name:
        return args[0].clone(), torch.ones_like(args[0], dtype=torch.bool)
    if name == "dropout":
        return args[0].clone()
    state = torch.get_rng_state()
    result = func(*args, **kwargs)
    torch.set_rng_state(state)
    for leaf in trees.tensors(result if not isinstance(result, torch.Tensor) else [result]):
        leaf.fill_(1)
    return result
