"""Values to pickles: by cloudpickle, with memory out of band and one memo for all names.

Rules.  Functions and classes of the notebook go by value, in the state they have, and their globals
are the rank's namespace itself.  Pickler and unpickler number what they meet alike: merge rests on it.
"""

from __future__ import annotations

import enum
import io
import pickle
import sys
import types
from typing import Any

import cloudpickle

from nbaas.bundle.definitions import by_reference, global_names, is_notebook_definition
from nbaas.bundle.memory import SpanTable
from nbaas.bundle.reducers import reduce_class, reducer_of
from nbaas.bundle.restoring import NOTEBOOK, restore_function, set_function

PROTOCOL = 5
INLINE_BUFFER = 1 << 10  # bytes; smaller buffers stay in the pickle


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
        reducer = reducer_of(type(obj))
        reduced = reducer(self, obj) if reducer is not None else None
        if reduced is not None:
            return reduced
        if isinstance(obj, type) and is_notebook_definition(obj):
            self.classes.append(obj)
            self._note_definition(obj)
            return (
                super().reducer_override(obj) if issubclass(obj, enum.Enum) else reduce_class(obj)
            )
        return super().reducer_override(obj)

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
        self._note_definition(function)
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

    def _note_definition(self, definition: Any) -> None:
        """Let a definition come under its name too: pickles made on the other side look it up there."""
        name = definition.__qualname__
        if self.namespace.get(name) is definition:
            self.needed.setdefault(name, "")

    def _scope(self, function: types.FunctionType) -> str | None:
        """Return the module whose names the function sees; None when it is no module's."""
        if function.__globals__ is self.namespace:
            return NOTEBOOK
        name = function.__globals__.get("__name__")
        module = sys.modules.get(name) if isinstance(name, str) else None
        shared = module is not None and name != NOTEBOOK and vars(module) is function.__globals__
        return name if shared else None
