"""Nested values with tensors in them: tuples, named tuples, lists, dicts, dataclasses, model outputs."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

TensorMap = Callable[[torch.Tensor], Any]


def map_tensors(change: TensorMap, tree: Any) -> Any:
    """Return `tree` with each tensor replaced by `change(tensor)`; other leaves are kept."""
    if isinstance(tree, torch.Tensor):
        return change(tree)
    kind = type(tree)
    if kind is tuple:
        return tuple([map_tensors(change, item) for item in tree])
    if kind is list:
        return [map_tensors(change, item) for item in tree]
    if kind is dict:
        return {key: map_tensors(change, item) for key, item in tree.items()}
    if isinstance(tree, (str, int, float, bytes, type(None), slice, PackedSequence)):
        return tree
    return _map_special(change, tree)


def _map_special(change: TensorMap, tree: Any) -> Any:
    kind = type(tree)
    if isinstance(tree, tuple) and hasattr(kind, "_make"):  # a named tuple
        return kind._make([map_tensors(change, item) for item in tree])
    if isinstance(tree, tuple) and hasattr(kind, "n_sequence_fields"):  # torch.return_types.*
        return kind([map_tensors(change, item) for item in tree])
    if isinstance(tree, Mapping) and hasattr(tree, "__setitem__"):  # OrderedDict, HF ModelOutput
        changed: Any = copy.copy(tree)
        for key, item in tree.items():
            changed[key] = map_tensors(change, item)
        return changed
    if isinstance(tree, list):
        changed = copy.copy(tree)
        changed[:] = [map_tensors(change, item) for item in tree]
        return changed
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        changed = copy.copy(tree)
        for field in dataclasses.fields(tree):
            if hasattr(tree, field.name):
                value = map_tensors(change, getattr(tree, field.name))
                object.__setattr__(changed, field.name, value)
        return changed
    return tree


def tensors(tree: Any) -> list[torch.Tensor]:
    """Return the tensors of `tree` in the order `map_tensors` meets them."""
    found: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    map_tensors(keep, tree)
    return found


def numbers(tree: Any) -> list[Any]:
    """Return the numbers of `tree` that are no tensors."""
    if isinstance(tree, (int, float)):
        return [tree]
    if isinstance(tree, Mapping):
        tree = list(tree.values())
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        tree = list(vars(tree).values())
    if not isinstance(tree, (tuple, list)):
        return []
    return [number for item in tree for number in numbers(item)]
