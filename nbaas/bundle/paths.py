"""Where inside a value the part is that cannot travel: `cfg.client._lock`, and what to do about it."""

from __future__ import annotations

import functools
import io
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from nbaas.bundle.definitions import is_notebook_definition

MAX_CHILDREN = 10_000  # of one value; a culprit behind that is named by its container
_MEMBERS: tuple[tuple[type, tuple[str, ...]], ...] = (
    (types.MethodType, ("__self__",)),
    (functools.partial, ("func", "args", "keywords")),
    (property, ("fget", "fset", "fdel")),
    (staticmethod, ("__func__",)),
    (classmethod, ("__func__",)),
)
_ATOMS = (str, bytes, int, float, bool, complex, type(None))


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A part of a value that cannot be pickled."""

    path: str
    reason: str
    hint: str
    home: str  # module of its class

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def find_obstacle(
    path: str, value: Any, attempt: Callable[[Any], Exception | None]
) -> Obstacle | None:
    """Return the innermost part of `value` for which `attempt` returns an error; None if it has none."""
    error = attempt(value)
    if error is None:
        return None
    seen: set[int] = set()
    while True:
        seen.add(id(value))
        for label, child in children(value):
            if id(child) in seen or isinstance(child, _ATOMS):
                continue
            wrong = attempt(child)
            if wrong is not None:
                path, value, error = path + label, child, wrong
                break
        else:
            return Obstacle(path, _reason(error, value), _hint(value), type(value).__module__)


def _reason(error: Exception, value: Any) -> str:
    text = str(error)
    # An object that the pickler knows only by a failed look-up says nothing of what it is.
    if not text or text.startswith(("Can't pickle", "Can't get")):
        return (
            f"cannot pickle {type(value).__name__!r} object ({text})"
            if text
            else type(error).__name__
        )
    return text


def _hint(value: Any) -> str:
    kind = type(value)
    if isinstance(value, types.GeneratorType | types.CoroutineType | types.AsyncGeneratorType):
        return "make the generator inside the cell, or keep what it yields in a list"
    if isinstance(value, io.IOBase):
        return "open the file inside the cell"
    if kind.__module__ in ("_thread", "threading", "_asyncio", "asyncio"):
        return "make the object that owns it inside the cell"
    if "writer" in kind.__name__.lower() or kind.__module__.startswith(
        ("wandb", "tqdm", "requests")
    ):
        return f"make the {kind.__name__} inside the cell"
    return "make it inside the cell"


def children(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of `value` as (what to append to its path, part); a library has none."""
    if isinstance(value, types.ModuleType):
        return
    if isinstance(value, type | types.FunctionType) and not is_notebook_definition(value):
        return
    for count, part in enumerate(_children(value)):
        if count >= MAX_CHILDREN:
            return
        yield part


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in list(value.items()):
            yield f"[{key!r}]", item
            if not isinstance(key, _ATOMS):
                yield f".keys()[{key!r:.40}]", key
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from ((f"{{{item!r:.40}}}", item) for item in value)
    elif isinstance(value, type):
        yield from ((f".{name}", item) for name, item in list(vars(value).items()))
    elif isinstance(value, types.FunctionType):
        yield from _of_function(value)
    yield from _members(value)
    yield from _state(value)


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    for kind, names in _MEMBERS:
        if isinstance(value, kind):
            yield from ((f".{name}", getattr(value, name)) for name in names)


def _of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        try:
            yield f".<{name}>", cell.cell_contents
        except ValueError:
            continue
    for default in function.__defaults__ or ():
        yield "(default)", default
    for name, default in (function.__kwdefaults__ or {}).items():
        yield f"({name}=)", default


def _state(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what pickle would write of an object: its attributes by name, else its state."""
    if isinstance(value, type):
        return
    state = getattr(value, "__dict__", None)
    if type(value).__getstate__ is not object.__getstate__:  # type: ignore[comparison-overlap]
        try:
            state = value.__getstate__()
        except Exception:  # noqa: BLE001 - the user's method: then it is the obstacle itself
            return
    if isinstance(state, dict):
        yield from ((f".{name}", item) for name, item in list(state.items()))
    for name in getattr(type(value), "__slots__", ()) or ():
        if isinstance(name, str) and hasattr(value, name):
            yield f".{name}", getattr(value, name)
    # Last: what its class holds is seldom the obstacle, and has a path of its own.
    if is_notebook_definition(type(value)):
        yield ".__class__", type(value)


def path_of(target: Any, roots: dict[str, Any], limit: int = 100_000) -> str:
    """Return how the notebook reaches `target` from its names, '' when it does not."""
    seen = {id(value) for value in roots.values()}
    queue = list(roots.items())
    for path, value in queue:  # grows while it is walked
        if value is target:
            return path
        if len(queue) > limit:
            return ""
        for label, child in children(value):
            if id(child) not in seen and not isinstance(child, (*_ATOMS, types.ModuleType)):
                seen.add(id(child))
                queue.append((path + label, child))
    return ""
