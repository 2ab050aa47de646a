"""What a cell changed inside the values it was given: found on the rank, applied in the kernel.

A rank notes the shallow state of every mutable object it loaded.  Afterwards an object whose shallow
state differs gives one change, which names other objects instead of copying them; so a change lands
in the very object of the notebook, and everything that refers to it sees it.
"""

from __future__ import annotations

import collections
import enum
import functools
import logging
import pathlib
import random
import sys
import types
import weakref
from collections.abc import Mapping
from typing import Any

from nbaas.bundle import buffers, states
from nbaas.bundle.definitions import is_notebook_definition
from nbaas.bundle.keras_state import KERAS, layer_class
from nbaas.bundle.states import Kind

# They have attributes, which are not state: caches, or what is fixed at birth.
_NEVER = (
    types.ModuleType,
    types.MethodType,
    types.CodeType,
    types.BuiltinFunctionType,
    property,
    staticmethod,
    classmethod,
    functools.partial,
    enum.Enum,
    logging.Logger,
    pathlib.PurePath,
)
_CONTAINERS: tuple[tuple[type, Kind], ...] = (
    (list, states.SEQUENCE),
    (dict, states.MAPPING),
    (set, states.SET),
    (collections.deque, states.DEQUE),
    (bytearray, states.BYTES),
)
_EXACT: dict[type, Kind] = {
    **dict(_CONTAINERS),
    collections.OrderedDict: states.MAPPING,
    collections.defaultdict: states.MAPPING,
    collections.Counter: states.MAPPING,
    types.CellType: states.CELL,
}


# A mapped file: what is written to it is in the file, for the notebook as well.
FILE = Kind(lambda _: None, lambda *_: None, lambda *_: None)


def kind_of(value: Any) -> Kind | None:
    """Return how changes of `value` are followed; None for what cannot change, or is a library's."""
    cls = type(value)
    if cls in _of_libraries:
        return _of_libraries[cls]
    if isinstance(value, type):
        return states.CLASS if is_notebook_definition(value) else None
    if cls is types.FunctionType:
        return states.FUNCTION if is_notebook_definition(value) else None
    if cls not in _of_notebook:
        kind = _kind_of_class(cls)
        found = _of_notebook if is_notebook_definition(cls) else _of_libraries
        found[cls] = kind
        return kind
    return _of_notebook[cls]


_of_libraries: dict[type, Kind | None] = {}
# A class of the notebook that is defined anew must not stay in memory for this.
_of_notebook: weakref.WeakKeyDictionary[type, Kind | None] = weakref.WeakKeyDictionary()


def _kind_of_class(cls: type) -> Kind | None:
    if cls in _EXACT:
        return _EXACT[cls]
    if issubclass(cls, _NEVER) or cls.__module__ == "typing":
        return None
    for base, kind in _library_kinds():
        if issubclass(cls, base):
            return kind
    for base, kind in _CONTAINERS:
        if issubclass(cls, base):
            return states.with_attributes(kind)
    return states.INSTANCE if states.has_state(cls) else None


def _library_kinds() -> list[tuple[type, Kind]]:
    """Return the kinds of the libraries that are loaded; values of others cannot be here."""
    kinds: list[tuple[type, Kind]] = [(random.Random, buffers.RANDOM)]
    if (layer := layer_class()) is not None:
        kinds.append((layer, KERAS))  # before the modules of torch that they are
    if "torch" in sys.modules:
        import torch

        kinds += [(torch.Tensor, buffers.TENSOR), (torch.Generator, buffers.TORCH_GENERATOR)]
    if "numpy" in sys.modules:
        import numpy as np

        kinds.append((np.memmap, FILE))  # before the arrays that it is one of
        kinds.append((np.ndarray, buffers.ARRAY))
        kinds += [
            (cls, buffers.NUMPY_GENERATOR) for cls in (np.random.Generator, np.random.RandomState)
        ]
    return kinds


def note_all(objects: Mapping[int, Any]) -> dict[int, tuple[Any, Kind, Any]]:
    """Return number -> (object, its kind, its noted state) for the mutable ones of `objects`."""
    noted = {}
    for number, value in objects.items():
        kind = kind_of(value)
        if kind is not None:
            noted[number] = (value, kind, kind.note(value))
    return noted
