"""What a value of the notebook reaches: the names its code reads, and what is the shell's own."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

from nbaas.bundle.definitions import global_names, is_notebook_definition

# What the shell puts into the notebook; a rank has its stand-ins.
SHELL_NAMES = frozenset(["get_ipython", "exit", "quit", "open"])


def value_reads(namespace: dict[str, Any], name: str) -> tuple[str, ...]:
    """Return the names that using the notebook's value `name` may read: its code's globals."""
    if name not in namespace:
        return ()
    reads: dict[str, None] = {}
    for function in functions_of(namespace[name]):
        if function.__globals__ is namespace:
            reads.update(dict.fromkeys(global_names(function.__code__)))
    reads.pop(name, None)
    return tuple(reads)


def functions_of(value: Any) -> Iterator[types.FunctionType]:
    """Yield the notebook's functions behind `value`: itself, its class's, what it wraps."""
    if isinstance(value, types.FunctionType):
        yield value
        wrapped = (_contents(cell) for cell in value.__closure__ or ())
        yield from (inner for inner in wrapped if isinstance(inner, types.FunctionType))
    elif isinstance(value, types.MethodType):
        yield from functions_of(value.__func__)
    elif isinstance(value, type):
        for cls in filter(is_notebook_definition, value.__mro__):
            yield from _methods(cls)
    elif is_notebook_definition(type(value)):
        yield from functions_of(type(value))
    else:  # partial, lru_cache
        inner = getattr(value, "func", None) or getattr(value, "__wrapped__", None)
        if isinstance(inner, types.FunctionType):
            yield inner


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _methods(cls: type) -> Iterator[types.FunctionType]:
    for item in vars(cls).values():
        parts = (item.fget, item.fset, item.fdel) if isinstance(item, property) else (item,)
        for part in parts:
            bare = getattr(part, "__func__", part)
            if isinstance(bare, types.FunctionType):
                yield bare


def is_of_shell(value: Any) -> bool:
    """Tell whether the shell put this value into the notebook."""
    home = getattr(value, "__module__", None) or type(value).__module__
    return home.split(".")[0] in ("IPython", "ipykernel")
