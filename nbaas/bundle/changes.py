"""What a cell changed inside the values it was given: found on the rank, applied in the kernel.

A rank notes the shallow state of every mutable object it loaded.  Afterwards an object whose shallow
state differs gives one change, which names other objects instead of copying them; so a change lands
in the very object of the notebook, and everything that refers to it sees it.
"""

from __future__ import annotations

import collections
import copyreg
import enum
import functools
import logging
import pathlib
import random
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nbaas.bundle.memory import LoadedRegions
from nbaas.bundle.pickling import array_bounds, by_reference, tensor_bytes

# Compared by value: two ranks of the same life may hold different objects for the same number.
_PLAIN = (int, float, complex, str, bytes, bool, type(None))
_NEVER = (types.ModuleType, logging.Logger, pathlib.PurePath, enum.Enum, property, staticmethod, classmethod,
          functools.partial, types.MethodType, types.CodeType)  # fmt: skip
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Kind:
    """How the state of one kind of object is noted, compared and set."""

    note: Callable[[Any], Any]
    # (object, noted, memory) -> what to apply, None when nothing changed
    difference: Callable[[Any, Any, LoadedRegions], Any]
    apply: Callable[[Any, Any], None]


def kind_of(value: Any) -> Kind | None:
    """Return how changes of `value` are followed; None for what cannot change, or is a library's."""
    cls = type(value)
    if cls in _KINDS:
        return _KINDS[cls]
    if issubclass(cls, type | types.FunctionType | types.BuiltinFunctionType):
        followed = isinstance(value, type | types.FunctionType) and not by_reference(value)
        return (_CLASS if isinstance(value, type) else _FUNCTION) if followed else None
    if issubclass(cls, _NEVER) or cls.__module__ in ("typing", "torch._ops"):
        return None
    for base, kind in _library_kinds():
        if issubclass(cls, base):
            return kind
    for base, kind in _BASES:
        if issubclass(cls, base):
            return kind
    return _INSTANCE if _has_state(cls) else None


def note_all(objects: Mapping[int, Any]) -> dict[int, tuple[Any, Kind, Any]]:
    """Return number -> (object, its kind, its noted state) for the mutable ones of `objects`."""
    noted = {}
    for number, value in objects.items():
        kind = kind_of(value)
        if kind is not None:
            noted[number] = (value, kind, kind.note(value))
    return noted


def same(first: Any, second: Any) -> bool:
    """Tell whether two parts of a state are the same object, or equal plain values."""
    if first is second:
        return True
    return type(first) is type(second) and isinstance(first, _PLAIN) and first == second


# ---- containers --------------------------------------------------------------------------------


def _sequence_difference(value: Any, noted: list[Any], _: LoadedRegions) -> list[Any] | None:
    now = list(value)
    if len(now) == len(noted) and all(map(same, now, noted)):
        return None
    return now


def _set_list(target: list[Any], items: list[Any]) -> None:
    list.__setitem__(target, slice(None), items)


def _set_deque(target: collections.deque[Any], items: list[Any]) -> None:
    target.clear()
    target.extend(items)


def _note_mapping(value: Any) -> dict[Any, Any]:
    return dict(value.items()) if isinstance(value, collections.OrderedDict) else dict(value)


def _mapping_difference(value: Any, noted: dict[Any, Any], _: LoadedRegions) -> Any:
    now = _note_mapping(value)
    if len(now) == len(noted) and all(
        same(a, b) and same(now[a], noted[b]) for a, b in zip(now, noted, strict=True)
    ):
        return None
    return {key: item for key, item in now.items() if not _is_ours(item)}


def _set_mapping(target: Any, items: dict[Any, Any]) -> None:
    target.clear()
    setter = target.__setitem__ if isinstance(target, collections.OrderedDict) else None
    if setter is None:
        dict.update(target, items)
        return
    for key, item in items.items():
        setter(key, item)


def _set_difference(value: Any, noted: set[Any], _: LoadedRegions) -> set[Any] | None:
    now = set(value)
    return None if now == noted and {id(x) for x in now} == {id(x) for x in noted} else now


def _set_set(target: set[Any], items: set[Any]) -> None:
    target.clear()
    target.update(items)


def _bytes_difference(value: bytearray, noted: bytes, _: LoadedRegions) -> bytes | None:
    return None if bytes(value) == noted else bytes(value)


def _set_bytes(target: bytearray, data: bytes) -> None:
    target[:] = data


def _is_ours(value: Any) -> bool:
    """Tell whether the semantic layer left this in a user's object: a hook, a wrapper."""
    home = getattr(value if callable(value) else type(value), "__module__", None)
    return isinstance(home, str) and home.startswith("nbaas.") and not hasattr(value, "whole")


# ---- instances, functions, classes -------------------------------------------------------------


def _has_state(cls: type) -> bool:
    return bool(getattr(cls, "__dictoffset__", 0)) or bool(copyreg._slotnames(cls))  # type: ignore[attr-defined]  # noqa: SLF001 - what pickle itself asks


def _note_instance(value: Any) -> dict[str, Any]:
    state = dict(getattr(value, "__dict__", None) or {})
    for name in copyreg._slotnames(type(value)):  # type: ignore[attr-defined]  # noqa: SLF001
        item = getattr(value, name, _ABSENT)
        if item is not _ABSENT:
            state[name] = item
    return state


def _instance_difference(value: Any, noted: dict[str, Any], _: LoadedRegions) -> Any:
    now = _note_instance(value)
    changed, removed = _state_difference(now, noted)
    travelling = _travelling(value) if changed or removed else None
    if travelling is not None:
        changed = {name: item for name, item in changed.items() if name in travelling}
        removed = [name for name in removed if name in travelling]
    return (changed, removed) if changed or removed else None


def _state_difference(
    now: dict[str, Any], noted: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    changed = {
        name: item
        for name, item in now.items()
        if not same(item, noted.get(name, _ABSENT)) and not _is_ours(item)
    }
    return changed, [name for name in noted if name not in now]


def _travelling(value: Any) -> set[str] | None:
    """Return the attributes that an object with its own `__getstate__` lets travel, else None."""
    if type(value).__getstate__ is object.__getstate__:
        return None
    try:
        state = value.__getstate__()
    except Exception:  # noqa: BLE001 - the user's method; what it refuses stays behind
        return set()
    return set(state) if isinstance(state, dict) else set()


def _set_instance(target: Any, state: tuple[dict[str, Any], list[str]]) -> None:
    changed, removed = state
    own = getattr(target, "__dict__", None)
    slots = set(copyreg._slotnames(type(target)))  # type: ignore[attr-defined]  # noqa: SLF001
    for name, item in changed.items():
        if own is None or name in slots:
            object.__setattr__(target, name, item)
        else:
            own[name] = item
    for name in removed:
        if own is not None and name in own:
            del own[name]
        elif name in slots:
            object.__delattr__(target, name)


_CLASS_INTERNALS = frozenset(["__dict__", "__weakref__", "__doc__", "_abc_impl", "__slotnames__"])


def _note_class(cls: type) -> dict[str, Any]:
    return {name: item for name, item in vars(cls).items() if name not in _CLASS_INTERNALS}


def _class_difference(cls: type, noted: dict[str, Any], _: LoadedRegions) -> Any:
    changed, removed = _state_difference(_note_class(cls), noted)
    return (changed, removed) if changed or removed else None


def _set_class(cls: type, state: tuple[dict[str, Any], list[str]]) -> None:
    for name, item in state[0].items():
        type.__setattr__(cls, name, item)
    for name in state[1]:
        if name in vars(cls):
            type.__delattr__(cls, name)


def _note_function(function: types.FunctionType) -> dict[str, Any]:
    defaults = {"__defaults__": function.__defaults__, "__kwdefaults__": function.__kwdefaults__}
    return {**function.__dict__, **defaults}


def _function_difference(
    function: types.FunctionType, noted: dict[str, Any], _: LoadedRegions
) -> Any:
    changed, removed = _state_difference(_note_function(function), noted)
    return (changed, removed) if changed or removed else None


def _set_function(function: types.FunctionType, state: tuple[dict[str, Any], list[str]]) -> None:
    for name, item in state[0].items():
        setattr(function, name, item)
    for name in state[1]:
        function.__dict__.pop(name, None)


def _note_cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _ABSENT


def _cell_difference(cell: types.CellType, noted: Any, _: LoadedRegions) -> Any:
    now = _note_cell(cell)
    return None if now is _ABSENT or same(now, noted) else (now,)


def _set_cell(cell: types.CellType, contents: tuple[Any]) -> None:
    cell.cell_contents = contents[0]


# ---- memory: tensors and arrays ----------------------------------------------------------------


def _note_tensor(tensor: Any) -> Any:
    grad = tensor.grad if tensor.is_leaf else None
    return _geometry(tensor), tensor.requires_grad, grad


def _geometry(tensor: Any) -> tuple[Any, ...]:
    import torch

    if tensor.layout is not torch.strided:
        return (tensor.layout, tuple(tensor.shape), tensor.dtype)
    place = (tensor.device, tensor.data_ptr())
    return (*place, tuple(tensor.shape), tensor.stride(), tensor.dtype)


def _tensor_difference(tensor: Any, noted: Any, regions: LoadedRegions) -> Any:
    geometry, requires_grad, grad = noted
    now: dict[str, Any] = {}
    if _geometry(tensor) != geometry or _memory_changed(tensor, regions):
        now["data"] = tensor.detach()
    if tensor.requires_grad != requires_grad and tensor.is_leaf:
        now["requires_grad"] = tensor.requires_grad
    if tensor.is_leaf and (tensor.grad is not grad or grad is not None):
        now["grad"] = None if tensor.grad is None else tensor.grad.detach()
    return now or None


def _memory_changed(tensor: Any, regions: LoadedRegions) -> bool:
    import torch

    if tensor.layout is not torch.strided or tensor.device.type == "meta":
        return False
    nbytes = tensor_bytes(tensor)
    if not nbytes:
        return False
    if tensor.device.type == "cpu":
        return regions.changed(tensor.data_ptr(), nbytes)
    whole = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    whole.set_(tensor.untyped_storage(), tensor.storage_offset() * tensor.element_size(), (nbytes,))
    copy = memoryview(whole.cpu().numpy())
    return regions.changed_on_device(tensor.data_ptr(), copy)


def _set_tensor(target: Any, state: dict[str, Any]) -> None:
    import torch

    with torch.no_grad():
        if "data" in state:
            _set_data(target, state["data"])
        if "requires_grad" in state and target.is_leaf:
            target.requires_grad_(state["requires_grad"])
        if "grad" in state and target.is_leaf:
            grad = state["grad"]
            target.grad = None if grad is None else grad.to(target.device, target.dtype)


def _set_data(target: Any, data: Any) -> None:
    fits = target.shape == data.shape and target.dtype == data.dtype
    if fits and (target.device == data.device or data.device.type == "cpu"):
        target.copy_(data)  # into the same memory: views of it see it too
    else:
        target.data = data


def _note_array(array: Any) -> Any:
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype


def _array_difference(array: Any, noted: Any, regions: LoadedRegions) -> Any:
    if array.dtype.hasobject:
        return array.copy()
    start, end = array_bounds(array)
    moved = _note_array(array) != noted
    return array.copy() if moved or (end > start and regions.changed(start, end - start)) else None


def _set_array(target: Any, data: Any) -> None:
    import numpy as np

    if target.shape != data.shape:
        target.resize(data.shape, refcheck=False)
    np.copyto(target, data)


# ---- random generators -------------------------------------------------------------------------


def _generator_difference(generator: Any, noted: Any, _: LoadedRegions) -> Any:
    import torch

    now = generator.get_state()
    return None if torch.equal(now, noted) else now


def _random_difference(generator: random.Random, noted: Any, _: LoadedRegions) -> Any:
    now = generator.getstate()
    return None if now == noted else now


def _numpy_state(generator: Any) -> Any:
    source = getattr(generator, "bit_generator", generator)
    return source.state if hasattr(source, "state") else generator.get_state(legacy=False)


def _numpy_difference(generator: Any, noted: Any, _: LoadedRegions) -> Any:
    now = _numpy_state(generator)
    return None if repr(now) == repr(noted) and _same_keys(now, noted) else now


def _same_keys(now: Any, noted: Any) -> bool:
    first, second = now.get("state"), noted.get("state")
    if isinstance(first, dict) and "key" in first:
        return bool((first["key"] == second["key"]).all())
    return bool(first == second)


def _set_numpy(generator: Any, state: Any) -> None:
    source = getattr(generator, "bit_generator", generator)
    if hasattr(source, "state"):
        source.state = state
    else:
        generator.set_state(state)


_SEQUENCE = Kind(list, _sequence_difference, _set_list)
_MAPPING = Kind(_note_mapping, _mapping_difference, _set_mapping)
_SET = Kind(set, _set_difference, _set_set)
_INSTANCE = Kind(_note_instance, _instance_difference, _set_instance)
_CLASS = Kind(_note_class, _class_difference, _set_class)
_FUNCTION = Kind(_note_function, _function_difference, _set_function)
_TENSOR = Kind(_note_tensor, _tensor_difference, _set_tensor)
_ARRAY = Kind(_note_array, _array_difference, _set_array)
_KINDS: dict[type, Kind] = {
    list: _SEQUENCE,
    dict: _MAPPING,
    collections.OrderedDict: _MAPPING,
    collections.defaultdict: _MAPPING,
    collections.Counter: _MAPPING,
    set: _SET,
    bytearray: Kind(bytes, _bytes_difference, _set_bytes),
    collections.deque: Kind(list, _sequence_difference, _set_deque),
    types.CellType: Kind(_note_cell, _cell_difference, _set_cell),
}
_BASES: tuple[tuple[type, Kind], ...] = (
    (random.Random, Kind(random.Random.getstate, _random_difference, random.Random.setstate)),
)


def _library_kinds() -> list[tuple[type, Kind]]:
    """Return the kinds of the libraries that are loaded; values of others cannot be here."""
    kinds: list[tuple[type, Kind]] = []
    if "torch" in sys.modules:
        import torch

        def set_state(target: Any, state: Any) -> None:
            target.set_state(state)

        def get_state(target: Any) -> Any:
            return target.get_state()

        kinds += [
            (torch.Tensor, _TENSOR),
            (torch.Generator, Kind(get_state, _generator_difference, set_state)),
        ]
    if "numpy" in sys.modules:
        import numpy as np

        numpy_kind = Kind(_numpy_state, _numpy_difference, _set_numpy)
        kinds += [
            (np.ndarray, _ARRAY),
            (np.random.Generator, numpy_kind),
            (np.random.RandomState, numpy_kind),
        ]
    return kinds
