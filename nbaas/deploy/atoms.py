"""Values that hold no others, as JSON nodes and back: both halves of each kind stand together."""

from __future__ import annotations

import base64
import datetime as dt
import logging
import pathlib
import re
import threading
import typing
from collections.abc import Callable
from typing import Any

Node = list[Any]
LOCKS: tuple[Any, ...] = (type(threading.Lock()), type(threading.RLock()))

# kind of node: (which values, their parts, from the parts back)
_ATOMS: dict[str, tuple[Callable[[Any], bool], Callable[[Any], Node], Callable[..., Any]]] = {
    "float": (  # infinite or NaN: the finite ones are plain JSON
        lambda item: type(item) is float,
        lambda item: [repr(item)],
        float,
    ),
    "complex": (
        lambda item: type(item) is complex,
        lambda item: [repr(item.real), repr(item.imag)],
        lambda real, imag: complex(float(real), float(imag)),
    ),
    "bytes": (
        lambda item: type(item) is bytes,
        lambda item: [base64.b64encode(item).decode()],
        base64.b64decode,
    ),
    "bytearray": (
        lambda item: type(item) is bytearray,
        lambda item: [base64.b64encode(item).decode()],
        lambda text: bytearray(base64.b64decode(text)),
    ),
    "path": (
        lambda item: isinstance(item, pathlib.PurePath),
        lambda item: [str(item)],
        pathlib.Path,
    ),
    "regex": (
        lambda item: type(item) is re.Pattern and isinstance(item.pattern, str),
        lambda item: [item.pattern, item.flags],
        re.compile,
    ),
    "datetime": (
        lambda item: type(item) is dt.datetime,
        lambda item: [item.isoformat()],
        dt.datetime.fromisoformat,
    ),
    "date": (
        lambda item: type(item) is dt.date,
        lambda item: [item.isoformat()],
        dt.date.fromisoformat,
    ),
    "logger": (
        lambda item: isinstance(item, logging.Logger),
        lambda item: [item.name],
        logging.getLogger,
    ),
    "lock": (  # a new one: nobody waits for it there
        lambda item: type(item) in LOCKS,
        lambda item: [LOCKS.index(type(item))],
        lambda index: (threading.Lock, threading.RLock)[index](),
    ),
    "typevar": (
        lambda item: type(item) is typing.TypeVar,
        lambda item: [item.__name__],
        typing.TypeVar,
    ),
    "range": (
        lambda item: type(item) is range,
        lambda item: [item.start, item.stop, item.step],
        range,
    ),
}


def atom_node(item: Any) -> Node | None:
    """Return the node of a value of one of the kinds above, None for any other."""
    for kind, (is_kind, parts_of, _) in _ATOMS.items():
        if is_kind(item):
            return [kind, *parts_of(item)]
    return None


def is_atom(kind: str) -> bool:
    return kind in _ATOMS


def atom_value(kind: str, parts: Node) -> Any:
    """Return the value that `atom_node` wrote down."""
    return _ATOMS[kind][2](*parts)
