"""How single kinds of values are taken apart: functions, cells, tensors, arrays, loaders."""

from __future__ import annotations

import abc
import copyreg
import functools
import marshal
import sys
import types
import typing
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from nbaas.bundle import restoring
from nbaas.bundle.keras_state import layer_class, made_quietly, parameters_of, set_parameters
from nbaas.bundle.memory import SpanTable
from nbaas.bundle.restoring import NOTEBOOK

Reduced = tuple[Any, ...]


class Collector(Protocol):
    """What reducers tell the pickler beside what they return."""

    spans: SpanTable
    devices: dict[str, None]

    def function(self, function: types.FunctionType) -> Any: ...


Reducer = Callable[[Collector, Any], Any]  # None: as pickle does it


def _reduce_function(pickler: Collector, function: types.FunctionType) -> Any:
    return pickler.function(function)


def _reduce_code(_: Collector, code: types.CodeType) -> Any:
    # Not as cloudpickle does it, which from 3.1.3 on forgets which file, so which cell, it is from.
    # Bundles are opened by the Python that made them, so its own format will do.
    try:
        return marshal.loads, (marshal.dumps(code),)
    except ValueError:  # a library has put objects among its constants
        return NotImplemented


def _reduce_cell(_: Collector, cell: types.CellType) -> Reduced:
    try:
        state = (cell.cell_contents,)
    except ValueError:  # empty: a name of the enclosing function that is not bound yet
        return restoring.make_cell, ()
    return restoring.make_cell, (), state, None, None, restoring.set_cell


def _reduce_cached(_: Collector, cached: Any) -> Any:
    # lru_cache says it goes by name, which holds only for those of an importable module.
    module = sys.modules.get(cached.__module__)
    if cached.__module__ != NOTEBOOK and getattr(module, cached.__name__, None) is cached:
        return NotImplemented
    return restoring.make_cached, (cached.__wrapped__, cached.cache_parameters())


def _reduce_cached_property(_: Collector, value: Any) -> Reduced:
    return restoring.make_cached_property, (value.func, value.attrname)


def _reduce_weak(_: Collector, value: Any) -> Reduced:
    return type(value), (dict(value),)


def reduce_class(cls: type) -> Reduced:
    """Reduce a class of the notebook: made empty, then filled with the attributes it has now."""
    inside = vars(cls)
    kept = ("__module__", "__slots__", "__orig_bases__")
    body = {name: inside[name] for name in kept if name in inside}
    body["__qualname__"] = cls.__qualname__
    attributes = {
        name: value
        for name, value in inside.items()
        if name not in body and name not in _CLASS_MADE_BY_PYTHON and not _is_slot(value, cls)
    }
    registered = [ref() for ref in abc._get_dump(cls)[0]] if "_abc_impl" in inside else []  # type: ignore[attr-defined]  # noqa: SLF001 - no other way to read it
    state = (attributes, registered)
    if typing.is_typeddict(cls):
        made = (cls.__name__, body.pop("__orig_bases__"), body)
        return restoring.make_typed_dict, made, state, None, None, restoring.set_class
    parts = (type(cls), cls.__name__, cls.__bases__, body)
    return restoring.make_class, parts, state, None, None, restoring.set_class


_CLASS_MADE_BY_PYTHON = frozenset(["__dict__", "__weakref__", "_abc_impl", "__annotate_func__"])


def _is_slot(value: Any, cls: type) -> bool:
    return isinstance(value, types.MemberDescriptorType) and value.__objclass__ is cls


# ---- memory ------------------------------------------------------------------------------------


def _reduce_array(pickler: Collector, array: Any) -> Any:
    if array.dtype.hasobject or array.dtype.metadata is not None:
        return NotImplemented
    start, end = array_bounds(array)
    address = array.__array_interface__["data"][0]
    span = pickler.spans.add(start, end - start, array) if end > start else None
    writeable = array.flags.writeable
    layout = (array.dtype, array.shape, array.strides, address - start, writeable)
    return restoring.restore_array, (span, layout)


def _reduce_mapped(pickler: Collector, array: Any) -> Any:
    """Reduce a mapped file to the place in it; one with writes of its own travels as an array."""
    import numpy as np

    root = array
    while isinstance(root.base, np.memmap):
        root = root.base
    if root._mmap is None or root.filename is None or root.mode == "c":  # noqa: SLF001 - tells a mapped one
        return _reduce_array(pickler, array.view(np.ndarray))
    start, end = array_bounds(array)
    address = array.__array_interface__["data"][0]
    offset = root.offset + start - root.__array_interface__["data"][0]
    mode = "r" if root.mode == "r" else "r+"
    layout = (array.dtype, array.shape, array.strides, address - start)
    return restoring.restore_mapped, (str(root.filename), mode, offset, end - start, layout)


def array_bounds(array: Any) -> tuple[int, int]:
    """Return the first address of an array's elements and the one after the last."""
    if array.size == 0:
        return 0, 0
    start = end = array.__array_interface__["data"][0]
    for length, stride in zip(array.shape, array.strides, strict=True):
        reach = (length - 1) * stride
        start, end = (start + reach, end) if reach < 0 else (start, end + reach)
    return start, end + array.itemsize


def _reduce_tensor(pickler: Collector, tensor: Any) -> Any:
    import torch

    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        return NotImplemented
    plain = tensor.detach().resolve_conj().resolve_neg()
    span = _tensor_span(pickler, plain)
    kind = None if type(tensor) is torch.Tensor else type(tensor)
    shape = (tuple(plain.shape), plain.stride())
    layout = (kind, plain.dtype, *shape, tensor.requires_grad, str(plain.device))
    grad = tensor.grad if tensor.is_leaf else None
    if grad is None and not tensor.__dict__:
        return restoring.restore_tensor, (span, layout)
    state = {"grad": grad, "dict": tensor.__dict__}
    return restoring.restore_tensor, (span, layout), state, None, None, restoring.set_tensor


def tensor_bytes(tensor: Any) -> int:
    """Return the bytes from the first element to the end of the last."""
    if tensor.numel() == 0:
        return 0
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return int((1 + sum((size - 1) * step for size, step in sizes)) * tensor.element_size())


def _tensor_span(pickler: Collector, tensor: Any) -> int | None:
    nbytes = tensor_bytes(tensor)
    if not nbytes:
        return None
    if tensor.device.type == "cpu":
        return pickler.spans.add(tensor.data_ptr(), nbytes, tensor)
    device = str(tensor.device)
    pickler.devices.setdefault(device)

    def read(address: int, size: int) -> memoryview:
        return device_bytes(tensor, address - tensor.untyped_storage().data_ptr(), size)

    return pickler.spans.add_device(device, tensor.data_ptr(), nbytes, read)


def device_bytes(tensor: Any, offset: int, nbytes: int) -> memoryview:
    """Return a copy in main memory of bytes of the storage of `tensor`."""
    import torch

    storage = tensor.untyped_storage()
    part: Any = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    part.set_(storage, offset, (nbytes,), (1,))
    return memoryview(part.cpu().numpy())


def _reduce_storage(pickler: Collector, storage: Any) -> Any:
    if storage.device.type != "cpu":
        return NotImplemented
    nbytes = storage.nbytes()
    span = pickler.spans.add(storage.data_ptr(), nbytes, storage) if nbytes else None
    return restoring.restore_storage, (span, nbytes)


# ---- by what they are made of ------------------------------------------------------------------


def _reduce_global_tensor(_: Collector, value: Any) -> Any:
    """Let a sharded or pending value of the semantic layer travel as the plain one it stands for."""
    if not hasattr(value, "whole"):
        return None
    import torch

    with torch.no_grad():
        plain = value.settled() if hasattr(value, "settled") else value.whole()
    return restoring.itself, (plain.detach(),)


def _reduce_loader(_: Collector, loader: Any) -> Any:
    if getattr(loader, "_iterator", None) is None:
        return None
    # Its worker processes stay here; the other side starts its own.
    newobj = copyreg.__newobj__  # type: ignore[attr-defined]
    return newobj, (type(loader),), {**vars(loader), "_iterator": None}


def _reduce_keras(_: Collector, value: Any) -> Any:
    layer = layer_class()
    if layer is None or not isinstance(value, layer):
        return None
    made = value.__reduce__()
    if not isinstance(made, tuple) or len(made) != 2:  # noqa: PLR2004 - what makes it, of what
        return None
    held = parameters_of(value)
    state = () if held is None else (held, None, None, set_parameters)
    return made_quietly, (made[0], *made[1]), *state


_REDUCERS: dict[type, Reducer] = {
    types.FunctionType: _reduce_function,
    types.CodeType: _reduce_code,
    types.CellType: _reduce_cell,
    type(functools.lru_cache(restoring.itself)): _reduce_cached,
    functools.cached_property: _reduce_cached_property,
    weakref.WeakKeyDictionary: _reduce_weak,
    weakref.WeakValueDictionary: _reduce_weak,
}
_OF_MODULES: tuple[tuple[str, Reducer], ...] = (
    ("nbaas.parallel.", _reduce_global_tensor),
    ("torch.utils.data.dataloader", _reduce_loader),
    ("keras.", _reduce_keras),
)


def reducer_of(cls: type) -> Reducer | None:
    """Return what takes values of this very class apart, None where pickle knows better."""
    found = _REDUCERS.get(cls)
    if found is None:
        home = cls.__module__
        found = next((reducer for start, reducer in _OF_MODULES if home.startswith(start)), None)
    return found


def register_reducers() -> None:
    """Learn the types of the libraries that are in use; others cannot occur."""
    if "numpy" in sys.modules:
        import numpy as np

        _REDUCERS[np.ndarray] = _reduce_array
        _REDUCERS[np.memmap] = _reduce_mapped
    if "torch" in sys.modules:
        import torch

        _REDUCERS[torch.Tensor] = _reduce_tensor
        _REDUCERS[torch.nn.Parameter] = _reduce_tensor
        _REDUCERS[torch.UntypedStorage] = _reduce_storage
