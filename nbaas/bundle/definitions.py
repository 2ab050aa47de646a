"""What counts as a definition of the notebook, and the names that its code reads."""

from __future__ import annotations

import dis
import types
from collections.abc import Iterator
from typing import Any

import cloudpickle


def global_names(code: types.CodeType) -> Iterator[str]:
    """Yield the globals that `code` and the functions in it read."""
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield step.argval
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from global_names(const)


def by_reference(definition: Any) -> bool:
    """Tell whether a function or class can be imported where it says it is."""
    return bool(cloudpickle.cloudpickle._should_pickle_by_reference(definition))  # noqa: SLF001 - as its pickler decides


_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, or could have been


def is_notebook_definition(value: Any) -> bool:
    """Tell whether `value` is a function or class that goes by value."""
    if isinstance(value, type):
        return bool(value.__flags__ & _HEAP_TYPE) and not by_reference(value)
    return isinstance(value, types.FunctionType) and not by_reference(value)
