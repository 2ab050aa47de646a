"""Tensors that a forward keeps in attributes of its module: features, a loss term, a hidden state.

They are outputs like those it returns.  Between calls they have the meaning of their rows; within a
call they are plain, as everything is inside a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from nbaas.parallel import trees
from nbaas.parallel.sharded import GlobalTensor

Slot = tuple[int, str]  # part of the module by its place in modules(), attribute
TORCH_OWN = frozenset(vars(nn.Module()))  # parameters, buffers, hooks: not attributes of the user's
_PLAIN = (int, float, str, type(None), nn.Parameter)


def slots_with_tensors(parts: Sequence[nn.Module]) -> dict[Slot, list[torch.Tensor]]:
    """Return the tensors in attributes of `parts`, those in lists and dictionaries too."""
    found = {}
    for index, part in enumerate(parts):
        for name, value in vars(part).items():
            if name in TORCH_OWN or isinstance(value, _PLAIN):
                continue
            held = [t for t in trees.tensors(value) if not isinstance(t, nn.Parameter)]
            if held:
                found[index, name] = held
    return found


def kept_since(
    before: dict[Slot, list[torch.Tensor]], parts: Sequence[nn.Module]
) -> dict[Slot, list[torch.Tensor]]:
    """Return the tensors in attributes that were not there `before`."""
    known = {id(tensor) for held in before.values() for tensor in held}
    found = {}
    for slot, held in slots_with_tensors(parts).items():
        new = [tensor for tensor in held if id(tensor) not in known]
        if new:
            found[slot] = new
    return found


def replace_tensors(
    parts: Sequence[nn.Module], slots: Iterable[Slot], change: Callable[[torch.Tensor], Any]
) -> None:
    """Replace the tensors in attributes; lists and dictionaries stay the objects they are."""
    for index, name in slots:
        value = vars(parts[index]).get(name)
        changed = trees.map_tensors(change, value)
        if type(value) is list:
            value[:] = changed
        elif type(value) is dict:
            value.update(changed)
        elif changed is not value:
            vars(parts[index])[name] = changed


class LocalState:
    """What `module` keeps, made plain by `take` for one call; `settle` gives it its meaning again."""

    def __init__(self, module: nn.Module, take: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.parts = list(module.modules())
        self.slots = list(slots_with_tensors(self.parts))
        self.globals: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # by id of what was taken

        def plain(tensor: torch.Tensor) -> torch.Tensor:
            if not isinstance(tensor, GlobalTensor):
                return tensor
            taken = take(tensor)
            self.globals[id(taken)] = taken, tensor
            return taken

        replace_tensors(self.parts, self.slots, plain)
        self.before = slots_with_tensors(self.parts)

    def settle(self, wrap: Callable[[list[torch.Tensor]], list[Any]] | None = None) -> None:
        """Put the global tensors back; what the call kept anew is what `wrap` makes of it."""
        back = {key: original for key, (_, original) in self.globals.items()}
        if wrap is not None:
            new = [t for held in kept_since(self.before, self.parts).values() for t in held]
            back |= {id(t): w for t, w in zip(new, wrap(new), strict=True)}
        if back:
            slots = slots_with_tensors(self.parts)
            replace_tensors(self.parts, slots, lambda tensor: back.get(id(tensor), tensor))
