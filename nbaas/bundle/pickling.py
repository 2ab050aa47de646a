"""Values to pickles and back: by cloudpickle, with memory out of band and one memo for all names.

Rules.  Functions and classes of the notebook go by value, in the state they have, and their globals
are the rank's namespace itself.  Pickler and unpickler number what they meet alike, so that number n
of the memo is the same object on both sides: merge rests on it.
"""

from __future__ import annotations

import contextlib
import copyreg
import dis
import functools
import io
import pickle
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cloudpickle

from nbaas.bundle.memory import LoadedRegions, SpanTable

NOTEBOOK = "__main__"
PROTOCOL = 5
INLINE_BUFFER = 1 << 10  # bytes; smaller buffers stay in the pickle
Reduced = tuple[Any, ...]


# ---- what a pickle calls; the unpickler puts its own methods in their place --------------------


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


def make_cached(function: Any, maxsize: int | None, typed: bool) -> Any:  # noqa: FBT001 - as lru_cache has it
    return functools.lru_cache(maxsize, typed)(function)


def global_names(code: types.CodeType) -> Iterator[str]:
    """Yield the globals that `code` and the functions in it read."""
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield step.argval
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from global_names(const)


# ---- kernel to stream ------------------------------------------------------------------------


class ValuePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles values of `namespace`, one `dump` for each; collects what they need beside it."""

    def __init__(self, namespace: dict[str, Any], spans: SpanTable) -> None:
        self.stream = io.BytesIO()
        self.namespace = namespace
        self.spans = spans
        self.buffers: list[tuple[int, int]] = []
        self.needed: dict[str, str] = {}  # global names of the functions met -> which function
        self.codes: dict[types.CodeType, str] = {}  # code of the functions met -> qualified name
        self.classes: list[type] = []  # of the notebook
        self.devices: dict[str, None] = {}  # that memory was copied from
        super().__init__(self.stream, PROTOCOL, buffer_callback=self._on_buffer)

    def reducer_override(self, obj: Any) -> Any:
        reducer = _REDUCERS.get(type(obj))
        if reducer is not None:
            return reducer(self, obj)
        if isinstance(obj, type):
            return self._class(obj)
        for kind, of_kind in _REDUCERS_OF_KIND:
            if type(obj).__module__.startswith(kind):
                reduced = of_kind(self, obj)
                if reduced is not None:
                    return reduced
        return super().reducer_override(obj)

    def _class(self, cls: type) -> Any:
        if is_notebook_definition(cls):
            self.classes.append(cls)
        return super().reducer_override(cls)

    def _on_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        memory = buffer.raw()
        if memory.nbytes < INLINE_BUFFER:
            return True
        import numpy as np

        address = np.frombuffer(memory, np.uint8).__array_interface__["data"][0]
        self.buffers.append((self.spans.add(address, memory.nbytes, buffer), memory.nbytes))
        return False

    def function(self, function: types.FunctionType) -> Any:
        """Reduce a function; one of a library goes by name, unless it only claims to be of it."""
        if by_reference(function):
            return NotImplemented
        scope = self._scope(function)
        if scope is None:
            return self._dynamic_function_reduce(function)
        if function.__globals__ is self.namespace:
            self.codes[function.__code__] = function.__qualname__
            for name in global_names(function.__code__):
                self.needed.setdefault(name, function.__qualname__)
        state = {
            "__qualname__": function.__qualname__,
            "__module__": function.__module__,
            "__doc__": function.__doc__,
            "__defaults__": function.__defaults__,
            "__kwdefaults__": function.__kwdefaults__,
            "__annotations__": function.__annotations__,
            "__dict__": function.__dict__,
        }
        made = (function.__code__, scope, function.__name__, function.__closure__)
        return restore_function, made, state, None, None, set_function

    def _scope(self, function: types.FunctionType) -> str | None:
        """Return the module whose names the function sees; None when it is no module's."""
        if function.__globals__ is self.namespace:
            return NOTEBOOK
        name = function.__globals__.get("__name__")
        module = sys.modules.get(name) if isinstance(name, str) else None
        shared = module is not None and name != NOTEBOOK and vars(module) is function.__globals__
        return name if shared else None


def by_reference(definition: Any) -> bool:
    """Tell whether a function or class can be imported where it says it is."""
    return bool(cloudpickle.cloudpickle._should_pickle_by_reference(definition))  # noqa: SLF001 - as its pickler decides


def is_notebook_definition(value: Any) -> bool:
    """Tell whether `value` is a function or class that goes by value."""
    return isinstance(value, type | types.FunctionType) and not by_reference(value)


# ---- reducers by exact type --------------------------------------------------------------------


def _reduce_function(pickler: ValuePickler, function: types.FunctionType) -> Any:
    return pickler.function(function)


def _reduce_cell(_: ValuePickler, cell: types.CellType) -> Reduced:
    try:
        state = (cell.cell_contents,)
    except ValueError:  # empty: a name of the enclosing function that is not bound yet
        return make_cell, ()
    return make_cell, (), state, None, None, set_cell


def _reduce_cached(pickler: ValuePickler, cached: Any) -> Any:
    # lru_cache says it goes by name, which holds only for those of an importable module.
    module = sys.modules.get(cached.__module__)
    if cached.__module__ != NOTEBOOK and getattr(module, cached.__name__, None) is cached:
        return NotImplemented
    parameters = cached.cache_parameters()
    made = (cached.__wrapped__, parameters["maxsize"], parameters["typed"])
    del pickler
    return make_cached, made


def _reduce_array(pickler: ValuePickler, array: Any) -> Any:
    if array.dtype.hasobject or array.dtype.metadata is not None:
        return NotImplemented
    start, end = array_bounds(array)
    address = array.__array_interface__["data"][0]
    span = pickler.spans.add(start, end - start, array) if end > start else None
    made = (span, array.dtype, array.shape, array.strides, address - start, array.flags.writeable)
    return restore_array, made


def array_bounds(array: Any) -> tuple[int, int]:
    """Return the first address of an array's elements and the one after the last."""
    if array.size == 0:
        return 0, 0
    start = end = array.__array_interface__["data"][0]
    for length, stride in zip(array.shape, array.strides, strict=True):
        reach = (length - 1) * stride
        start, end = (start + reach, end) if reach < 0 else (start, end + reach)
    return start, end + array.itemsize


def _reduce_tensor(pickler: ValuePickler, tensor: Any) -> Any:
    import torch

    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        return NotImplemented
    plain = tensor.detach().resolve_conj().resolve_neg()
    nbytes = tensor_bytes(plain)
    span = _tensor_span(pickler, plain, plain.data_ptr(), nbytes) if nbytes else None
    kind = type(tensor) if type(tensor) is not torch.Tensor else None
    shape = (tuple(plain.shape), plain.stride())
    made = (span, kind, plain.dtype, *shape, tensor.requires_grad, str(plain.device))
    grad = tensor.grad if tensor.is_leaf else None
    if grad is None and not tensor.__dict__:
        return restore_tensor, made
    state = {"grad": grad, "dict": tensor.__dict__}
    return restore_tensor, made, state, None, None, set_tensor


def tensor_bytes(tensor: Any) -> int:
    """Return the bytes from the first element to the end of the last."""
    if tensor.numel() == 0:
        return 0
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return int((1 + sum((size - 1) * step for size, step in sizes)) * tensor.element_size())


def _tensor_span(pickler: ValuePickler, tensor: Any, address: int, nbytes: int) -> int:
    """Return the span of a tensor's (or a storage's) memory."""
    if tensor.device.type == "cpu":
        return pickler.spans.add(address, nbytes, tensor)
    device = str(tensor.device)
    pickler.devices.setdefault(device)
    storage = tensor.untyped_storage()

    def read(first: int, size: int) -> memoryview:
        import torch

        every_byte = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
        start = first - storage.data_ptr()
        return memoryview(every_byte[start : start + size].cpu().numpy())

    return pickler.spans.add_device(device, address, nbytes, read)


def _reduce_storage(pickler: ValuePickler, storage: Any) -> Any:
    if storage.device.type != "cpu":
        return NotImplemented
    nbytes = storage.nbytes()
    span = pickler.spans.add(storage.data_ptr(), nbytes, storage) if nbytes else None
    return restore_storage, (span, nbytes)


def _reduce_global_tensor(_: ValuePickler, value: Any) -> Any:
    """Let a sharded or pending value of the semantic layer travel as the plain value it stands for."""
    if not hasattr(value, "whole"):
        return None
    import torch

    with torch.no_grad():
        plain = value.settled() if hasattr(value, "settled") else value.whole()
    return _same, (plain.detach(),)


def _same(value: Any) -> Any:
    return value


def _reduce_loader(_: ValuePickler, loader: Any) -> Any:
    if not getattr(loader, "_iterator", None):
        return None
    # Its worker processes stay here; the other side starts its own.
    return copyreg.__newobj__, (type(loader),), {**vars(loader), "_iterator": None}  # type: ignore[attr-defined]


_REDUCERS: dict[type, Callable[[ValuePickler, Any], Any]] = {
    types.FunctionType: _reduce_function,
    types.CellType: _reduce_cell,
    type(functools.lru_cache(_same)): _reduce_cached,
}
_REDUCERS_OF_KIND: list[tuple[str, Callable[[ValuePickler, Any], Any]]] = [
    ("nbaas.parallel.", _reduce_global_tensor),
    ("torch.utils.data.dataloader", _reduce_loader),
]


def register_reducers() -> None:
    """Learn the types of the libraries that are in use; others cannot occur."""
    if "numpy" in sys.modules:
        import numpy as np

        _REDUCERS[np.ndarray] = _reduce_array
    if "torch" in sys.modules:
        import torch

        _REDUCERS[torch.Tensor] = _reduce_tensor
        _REDUCERS[torch.nn.Parameter] = _reduce_tensor
        _REDUCERS[torch.UntypedStorage] = _reduce_storage


# ---- stream to namespace -----------------------------------------------------------------------


class ValueUnpickler(pickle.Unpickler):
    """Restores values into `namespace`, one `load` for each."""

    def __init__(
        self,
        pickles: bytes,
        namespace: dict[str, Any],
        regions: LoadedRegions,
        buffers: tuple[tuple[int, int], ...],
        known: Sequence[Any] = (),
    ) -> None:
        """`known` are the objects that the first numbers of the memo stand for."""
        super().__init__(
            io.BytesIO(_introduction(len(known)) + pickles), buffers=regions.buffers(buffers)
        )
        self._known = known
        self._namespace = namespace
        self._regions = regions
        self._own: dict[tuple[str, str], Any] = {
            (__name__, "restore_tensor"): self._tensor,
            (__name__, "restore_storage"): self._storage,
            (__name__, "restore_array"): self._array,
            (__name__, "restore_function"): self._function,
            ("cloudpickle.cloudpickle", "_make_skeleton_class"): make_class,
        }
        self.load()  # the introduction

    def persistent_load(self, number: int) -> Any:
        return self._known[number]

    def find_class(self, module: str, name: str) -> Any:
        own = self._own.get((module, name))
        return own if own is not None else super().find_class(module, name)

    def _function(self, code: types.CodeType, scope: str, name: str, closure: Any) -> Any:
        if scope == NOTEBOOK:
            names = self._namespace
        else:
            __import__(scope)
            names = vars(sys.modules[scope])
        return types.FunctionType(code, names, name, None, closure)

    def _array(
        self,
        span: int | None,
        dtype: Any,
        shape: Any,
        strides: Any,
        offset: int,
        writeable: bool,  # noqa: FBT001
    ) -> Any:
        import numpy as np

        if span is None:
            return np.empty(shape, dtype)
        memory, start = self._regions.memory(span)
        array = np.ndarray(shape, dtype, memory, start + offset, strides)
        array.flags.writeable = writeable
        return array

    def _tensor(
        self,
        span: int | None,
        kind: Any,
        dtype: Any,
        shape: Any,
        stride: Any,
        grad: bool,
        device: str,
    ) -> Any:
        import torch

        if span is None:
            at = "cpu" if device == "cpu" else self._regions.device
            tensor = torch.empty_strided(shape, stride, dtype=dtype, device=at)
        else:
            storage, start = self._regions.storage(span)
            if start % dtype.itemsize:  # of a view of bytes at an odd place
                tensor = torch.frombuffer(self._regions.memory(span)[0][start:], dtype=torch.uint8)
                storage, start = tensor.untyped_storage(), 0
            tensor = torch.empty(0, dtype=dtype, device=storage.device)
            tensor.set_(storage, start // dtype.itemsize, shape, stride)
        if kind is not None:
            return kind(tensor, requires_grad=grad)
        return tensor.requires_grad_(grad) if grad else tensor

    def _storage(self, span: int | None, nbytes: int) -> Any:
        import torch

        if span is None:
            return torch.UntypedStorage(0)
        memory, start = self._regions.memory(span)
        return torch.frombuffer(memory[start : start + nbytes], dtype=torch.uint8).untyped_storage()


def _introduction(count: int) -> bytes:
    """Return a pickle that puts `count` known objects into the memo.

    (CPython 3.11 loses a memo that is set as a dict.)
    """
    steps = (b"J" + number.to_bytes(4, "little") + b"Q\x940" for number in range(count))
    return b"\x80\x05" + b"".join(steps) + b"N."


def make_class(metaclass: type, name: str, bases: tuple[type, ...], *rest: Any) -> type:
    """Return an empty class to be filled; no `__init_subclass__` of the notebook runs a second time.

    It ran in the kernel; what it did is in the values.  Here it would meet a class without its
    attributes, and globals that are not loaded yet.
    """
    hooks = [
        base
        for root in bases
        for base in root.__mro__
        if "__init_subclass__" in vars(base) and base.__module__ == NOTEBOOK
    ]
    with contextlib.ExitStack() as stack:
        for base in dict.fromkeys(hooks):
            stack.callback(
                type.__setattr__, base, "__init_subclass__", vars(base)["__init_subclass__"]
            )
            type.__setattr__(base, "__init_subclass__", classmethod(_no_hook))
        made: type = cloudpickle.cloudpickle._make_skeleton_class(metaclass, name, bases, *rest)  # noqa: SLF001
    return made


def _no_hook(cls: type, **_: Any) -> None: ...
