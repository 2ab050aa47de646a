"""What is served when it is more than a module: steps before and after, or a function that calls one.

Rule: these are modules themselves, so a version of them is written and rebuilt like any other.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch

from nbaas.deploy.keras_models import is_keras
from nbaas.deploy.nested import free_names
from nbaas.errors import DeployError

Step = Callable[..., Any]


class Pipeline(torch.nn.Module):
    """`post(model(pre(*inputs)))`; `pre` may return a tuple of arguments, a step may be None."""

    def __init__(self, model: Any, pre: Step | None = None, post: Step | None = None) -> None:
        super().__init__()
        self.model = model
        self.pre = pre
        self.post = post

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return what `post` makes of the model's output for the inputs that `pre` makes."""
        if self.pre is not None:
            prepared = self.pre(*inputs, **named)
            output = self.model(*prepared) if isinstance(prepared, tuple) else self.model(prepared)
        else:
            output = self.model(*inputs, **named)
        if self.post is None:
            return output
        return each(self.post, output) if isinstance(output, Iterator) else self.post(output)


def each(post: Step, items: Iterator[Any]) -> Iterator[Any]:
    """Yield what `post` makes of every item; `items` is closed with this one."""
    try:
        for item in items:
            yield post(item)
    finally:
        if hasattr(items, "close"):
            items.close()


class Called(torch.nn.Module):
    """A function, or an object with `__call__`, and the modules that it calls."""

    def __init__(self, function: Step, parts: list[torch.nn.Module]) -> None:
        super().__init__()
        self.function = function
        self.parts = torch.nn.ModuleList(parts)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.function(*inputs, **named)


def entry_of(module: Any) -> Any:
    """Return the callable whose arguments are the inputs of `module`."""
    if isinstance(module, Pipeline):
        return module.pre if module.pre is not None else entry_of(module.model)
    if isinstance(module, Called):
        return module.function
    if is_keras(module):
        return module.call
    return module.forward


def checked_step(step: Any, flag: str) -> Step | None:
    """Return a step as it was given; DeployError where it cannot be called."""
    if step is not None and not callable(step):
        raise DeployError(f"{flag} is a {type(step).__name__}, not a function")
    found: Step | None = step
    return found


def modules_in(item: Any) -> list[torch.nn.Module]:
    """Return the modules that a function uses by name, or that an object holds, in order, once each."""
    found: list[torch.nn.Module] = []
    for value in _reachable(item, set()):
        if isinstance(value, torch.nn.Module) and not any(value is known for known in found):
            found.append(value)
    return found


def _reachable(item: Any, seen: set[int]) -> Iterator[Any]:
    """Yield what the code of `item` names and closes over, and what its attributes hold."""
    if id(item) in seen:
        return
    seen.add(id(item))
    if isinstance(item, types.MethodType):
        yield item.__self__
        yield from _reachable(item.__self__, seen)
        item = item.__func__
    if isinstance(item, functools.partial):
        for value in (*item.args, *item.keywords.values()):
            yield value
            yield from _reachable(value, seen)
        item = item.func
    if isinstance(item, types.FunctionType):
        yield from _used_by(item, seen)
    elif not isinstance(item, torch.nn.Module | type) and hasattr(item, "__dict__"):
        yield from vars(item).values()
        yield from _reachable(_lookup(type(item), "__call__"), seen)


def _used_by(function: types.FunctionType, seen: set[int]) -> Iterator[Any]:
    """Yield what a function closes over and names; its neighbours are looked into as well."""
    named = [function.__globals__.get(name) for name in _names(function.__code__)]
    for value in [*free_names(function), *named]:
        yield value
        if isinstance(value, types.FunctionType) and value.__module__ == function.__module__:
            yield from _reachable(value, seen)


def _lookup(cls: type, name: str) -> Any:
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _names(const)
