"""The shallow state of containers, objects, functions and classes: noted, compared, set."""

from __future__ import annotations

import collections
import copyreg
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbaas.bundle.memory import LoadedRegions

# Compared by value: two ranks of the same life may hold different objects for the same number.
_PLAIN = (int, float, complex, str, bytes, bool, type(None))
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Kind:
    """How the state of one kind of object is noted, compared and set."""

    note: Callable[[Any], Any]
    # (object, noted, memory) -> what to apply, None when nothing changed
    difference: Callable[[Any, Any, LoadedRegions], Any]
    apply: Callable[[Any, Any], None]


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


def has_state(cls: type) -> bool:
    """Tell whether instances of `cls` have attributes of their own."""
    return bool(getattr(cls, "__dictoffset__", 0)) or bool(_slot_names(cls))


def _slot_names(cls: type) -> list[str]:
    names: list[str] = copyreg._slotnames(cls)  # type: ignore[attr-defined]  # noqa: SLF001 - as pickle does
    return names


def _note_instance(value: Any) -> dict[str, Any]:
    state = dict(getattr(value, "__dict__", None) or {})
    for name in _slot_names(type(value)):
        item = getattr(value, name, _ABSENT)
        if item is not _ABSENT:
            state[name] = item
    return state


def _instance_difference(value: Any, noted: dict[str, Any], _: LoadedRegions) -> Any:
    now = _note_instance(value)
    changed, removed = _state_difference(now, noted)
    travelling = _travelling(value) if changed or removed else None
    if travelling is not None:
        travelling |= _TRAVELS_TOO
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


# A scheduler in the notebook asks the optimizer whether it has made a step.
_TRAVELS_TOO = frozenset(["_opt_called"])


def _travelling(value: Any) -> set[str] | None:
    """Return the attributes that an object with its own `__getstate__` lets travel, else None."""
    if getattr(type(value), "__getstate__", None) is vars(object)["__getstate__"]:
        return None
    try:
        state = value.__getstate__()
    except Exception:  # noqa: BLE001 - the user's method; what it refuses stays behind
        return set()
    return set(state) if isinstance(state, dict) else set()


def _set_instance(target: Any, state: tuple[dict[str, Any], list[str]]) -> None:
    changed, removed = state
    own = getattr(target, "__dict__", None)
    slots = set(_slot_names(type(target)))
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


SEQUENCE = Kind(list, _sequence_difference, _set_list)
DEQUE = Kind(list, _sequence_difference, _set_deque)
MAPPING = Kind(_note_mapping, _mapping_difference, _set_mapping)
SET = Kind(set, _set_difference, _set_set)
BYTES = Kind(bytes, _bytes_difference, _set_bytes)
INSTANCE = Kind(_note_instance, _instance_difference, _set_instance)
CLASS = Kind(_note_class, _class_difference, _set_class)
FUNCTION = Kind(_note_function, _function_difference, _set_function)
CELL = Kind(_note_cell, _cell_difference, _set_cell)


def with_attributes(contents: Kind) -> Kind:
    """Return the kind of a container class of the user's that also has attributes."""

    def note(value: Any) -> Any:
        return contents.note(value), INSTANCE.note(value)

    def difference(value: Any, noted: Any, regions: LoadedRegions) -> Any:
        items = contents.difference(value, noted[0], regions)
        attributes = INSTANCE.difference(value, noted[1], regions)
        return None if items is None and attributes is None else (items, attributes)

    def apply(target: Any, state: Any) -> None:
        if state[0] is not None:
            contents.apply(target, state[0])
        if state[1] is not None:
            INSTANCE.apply(target, state[1])

    return Kind(note, difference, apply)
