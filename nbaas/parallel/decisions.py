"""Branches inside a split model: every rank must take the same one, or the call is not split.

A branch on `all`, `any` or a mean of the batch is one device's where all ranks take it alike.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from nbaas.parallel.world import World


class UndecidedError(BaseException):
    """Raised on every rank: parts of the batch decide otherwise; no model catches it."""


class Decisions(TorchFunctionMode):
    """Compares over ranks each truth value that a model asks for."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        value = func(*args, **(kwargs or {}))
        decides = isinstance(value, bool) and _is_decision(func, args)
        if decides and len(set(self.world.gather_objects(value))) > 1:
            raise UndecidedError
        return value


def _is_decision(func: Any, args: Any) -> bool:
    name = getattr(func, "__name__", "")
    asked = name in ("__bool__", "item", "is_nonzero") and isinstance(args[0], torch.Tensor)
    return asked or name in ("equal", "allclose")
