"""Values out of pickles: what a pickle calls, and the unpickler that puts its methods in their place.

Rule: number n of the memo is the same object here and in the process that pickled it.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import io
import pickle
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

from nbaas.bundle.memory import LoadedRegions

NOTEBOOK = "__main__"
Classes = Mapping[str, type] | None


def restore_tensor(*_: Any) -> Any:
    raise pickle.UnpicklingError("only a ValueUnpickler restores tensors")


def restore_storage(*_: Any) -> Any:
    raise pickle.UnpicklingError("only a ValueUnpickler restores storages")


def restore_array(*_: Any) -> Any:
    raise pickle.UnpicklingError("only a ValueUnpickler restores arrays")


def restore_function(*_: Any) -> Any:
    raise pickle.UnpicklingError("only a ValueUnpickler restores functions")


def make_cell() -> types.CellType:
    return types.CellType()


def set_cell(cell: types.CellType, contents: tuple[Any]) -> None:
    cell.cell_contents = contents[0]


def set_function(function: types.FunctionType, state: dict[str, Any]) -> None:
    function.__dict__.update(state.pop("__dict__"))
    for name, value in state.items():
        setattr(function, name, value)


def set_tensor(tensor: Any, state: dict[str, Any]) -> None:
    tensor.__dict__.update(state["dict"])
    tensor.grad = state["grad"]


def make_cached(function: Any, parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def restore_mapped(name: str, mode: Any, offset: int, nbytes: int, layout: tuple[Any, ...]) -> Any:
    """Return the array that lies in the file `name` at `offset`, `nbytes` long."""
    import numpy as np

    dtype, shape, strides, first = layout
    memory: Any = np.memmap(name, np.uint8, mode, offset, (nbytes,))
    return np.ndarray.__new__(np.memmap, shape, dtype, memory, first, strides)


def itself(value: Any) -> Any:
    """Return `value`: what a reducer calls that lets one value stand for another."""
    return value


class ValueUnpickler(pickle.Unpickler):
    """Restores values into `namespace`, one `load` for each."""

    def __init__(
        self,
        pickles: bytes,
        namespace: dict[str, Any],
        regions: LoadedRegions,
        buffers: tuple[tuple[int, int], ...],
        known: Sequence[Any] = (),
        classes: Classes = None,
    ) -> None:
        """`known` are the objects that the first numbers of the memo stand for.

        `classes` are taken in place of the notebook's classes of that name.
        """
        super().__init__(
            io.BytesIO(_introduction(len(known)) + pickles), buffers=regions.buffers(buffers)
        )
        self._known = known
        self._classes = classes or {}
        self._taken: set[type] = set()
        self._namespace = namespace
        self._regions = regions
        self._own: dict[tuple[str, str], Any] = {
            (__name__, "restore_tensor"): self._tensor,
            (__name__, "restore_storage"): self._storage,
            (__name__, "restore_array"): self._array,
            (__name__, "restore_function"): self._function,
            (__name__, "make_class"): self._class,
            (__name__, "set_class"): self._set_class,
        }
        self.load()  # the introduction

    def persistent_load(self, number: int) -> Any:
        return self._known[number]

    def find_class(self, module: str, name: str) -> Any:
        own = self._own.get((module, name))
        return own if own is not None else super().find_class(module, name)

    def _class(self, metaclass: type, name: str, *rest: Any) -> type:
        mine = self._classes.get(rest[-1].get("__qualname__", name))
        if mine is None or type(mine) is not metaclass:
            return make_class(metaclass, name, *rest)
        self._taken.add(mine)
        return mine

    def _set_class(self, cls: type, state: Any) -> None:
        if cls not in self._taken:  # the notebook's own stays as it is
            set_class(cls, state)

    def _function(self, code: types.CodeType, scope: str, name: str, closure: Any) -> Any:
        if scope == NOTEBOOK:
            names = self._namespace
        else:
            __import__(scope)
            names = vars(sys.modules[scope])
        return types.FunctionType(code, names, name, None, closure)

    def _array(self, span: int | None, layout: tuple[Any, ...]) -> Any:
        import numpy as np

        dtype, shape, strides, offset, writeable = layout
        if span is None:
            return np.empty(shape, dtype)
        memory, start = self._regions.memory(span)
        array: Any = np.ndarray(shape, dtype, memory, start + offset, strides)
        array.flags.writeable = writeable
        return array

    def _tensor(self, span: int | None, layout: tuple[Any, ...]) -> Any:
        import torch

        kind, dtype, shape, stride, requires_grad, device = layout
        if span is None:
            at = "cpu" if device == "cpu" else self._regions.device
            tensor = torch.empty_strided(shape, stride, dtype=dtype, device=at)
        else:
            storage, start = self._regions.storage(span)
            if start % dtype.itemsize:  # of a view of bytes at an odd place
                odd = torch.frombuffer(self._regions.memory(span)[0][start:], dtype=torch.uint8)
                storage, start = odd.untyped_storage(), 0
            tensor = torch.empty(0, dtype=dtype, device=storage.device)
            tensor.set_(storage, start // dtype.itemsize, shape, stride)
        if kind is not None:
            return kind(tensor, requires_grad=requires_grad)
        return tensor.requires_grad_(requires_grad) if requires_grad else tensor

    def _storage(self, span: int | None, nbytes: int) -> Any:
        import torch

        if span is None:
            return torch.empty(0, dtype=torch.uint8).untyped_storage()
        memory, start = self._regions.memory(span)
        return torch.frombuffer(memory[start : start + nbytes], dtype=torch.uint8).untyped_storage()


def _introduction(count: int) -> bytes:
    """Return a pickle that puts `count` known objects into the memo.

    (CPython 3.11 loses a memo that is set as a dict.)
    """
    steps = (b"J" + number.to_bytes(4, "little") + b"Q\x940" for number in range(count))
    return b"\x80\x05" + b"".join(steps) + b"N."


def make_class(
    metaclass: type, name: str, bases: tuple[type, ...], namespace: dict[str, Any]
) -> type:
    """Return a class without its attributes; nothing of the notebook runs for it a second time.

    `__init_subclass__` and metaclasses of the notebook ran in the kernel; what they did is in the
    values.  Here they would meet a class without attributes, and globals that are not loaded yet.
    """
    hooks = [
        base
        for root in bases
        for base in root.__mro__
        if "__init_subclass__" in vars(base) and base.__module__ == NOTEBOOK
    ]
    with contextlib.ExitStack() as stack:
        for base in dict.fromkeys(hooks):
            hook = vars(base)["__init_subclass__"]
            stack.callback(type.__setattr__, base, "__init_subclass__", hook)
            type.__setattr__(base, "__init_subclass__", classmethod(_no_hook))
        library = next(cls for cls in metaclass.__mro__ if cls.__module__ != NOTEBOOK)
        made: type
        if library is metaclass:
            made = metaclass(name, bases, namespace)
        else:
            made = library.__new__(metaclass, name, bases, namespace)
        return made


def make_typed_dict(name: str, bases: tuple[Any, ...], namespace: dict[str, Any]) -> type:
    return types.new_class(name, bases, {}, lambda body: body.update(namespace))


def set_class(cls: type, state: tuple[dict[str, Any], list[type]]) -> None:
    attributes, registered = state
    for name, value in attributes.items():
        type.__setattr__(cls, name, value)
    for other in registered:
        abc.ABCMeta.register(cls, other)  # type: ignore[arg-type]


def make_cached_property(function: Any, name: str | None) -> Any:
    made = functools.cached_property(function)
    made.attrname = name
    return made


def _no_hook(cls: type, /, **_: Any) -> None: ...
