"""From JSON and a table of tensors back to the object graph that `flatten` wrote down.

Objects are rebuilt without their constructor: `cls.__new__` and then their state, as `copy` does it.
Rule: only a replica rebuilds; whoever lists or inspects versions reads their manifest.
"""

from __future__ import annotations

import collections
import functools
import importlib
import operator
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nbaas.deploy.atoms import atom_value, is_atom
from nbaas.errors import BundleError

Value = Any  # a JSON scalar or {"ref": index}
Resolve = Callable[[str], Any]


def resolve_global(name: str) -> Any:
    """Return what 'module:qualname' names.  Raises: BundleError: it is not there."""
    module, _, qualname = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in qualname.split(".") if qualname else ():
            found = getattr(found, part)
    except (ImportError, AttributeError) as lost:
        raise BundleError(
            f"{name} is not here: {lost}", hint=f"install what has {module}"
        ) from lost
    return found


@dataclass(slots=True)
class Decoder:
    """Rebuilds what `flatten` wrote; `resolve` finds classes and functions by 'module:qualname'."""

    nodes: list[list[Any]]
    tensors: dict[str, Any]  # key -> torch.Tensor
    device: Any = "cpu"
    resolve: Resolve = resolve_global
    made: dict[int, Any] = field(default_factory=dict)

    def value(self, item: Value) -> Any:
        if not isinstance(item, dict):
            return item
        index = item["ref"]
        if index not in self.made:
            kind, *parts = self.nodes[index]
            if is_atom(kind):
                made = atom_value(kind, parts)
            else:
                made = getattr(self, f"_make_{kind}")(index, *parts)
            self.made[index] = made
        return self.made[index]

    def _values(self, items: list[Value]) -> list[Any]:
        return [self.value(item) for item in items]

    def _make_enum(self, _index: int, cls: str, name: str) -> Any:
        return self.resolve(cls)[name]

    def _make_slice(self, _index: int, *parts: Value) -> slice:
        return slice(*self._values(list(parts)))

    def _make_list(self, index: int, items: list[Value]) -> list[Any]:
        made: list[Any] = []
        self.made[index] = made
        made.extend(self._values(items))
        return made

    def _make_deque(self, index: int, items: list[Value]) -> Any:
        made: collections.deque[Any] = collections.deque()
        self.made[index] = made
        made.extend(self._values(items))
        return made

    def _make_tuple(self, _index: int, items: list[Value]) -> tuple[Any, ...]:
        return tuple(self._values(items))

    def _make_set(self, _index: int, items: list[Value]) -> set[Any]:
        return set(self._values(items))

    def _make_frozenset(self, _index: int, items: list[Value]) -> frozenset[Any]:
        return frozenset(self._values(items))

    def _make_dict(self, index: int, pairs: list[list[Value]]) -> dict[Any, Any]:
        return self._fill(index, {}, pairs)

    def _make_OrderedDict(self, index: int, pairs: list[list[Value]]) -> Any:  # noqa: N802 - a kind
        return self._fill(index, collections.OrderedDict(), pairs)

    def _make_defaultdict(self, index: int, factory: Value, pairs: list[list[Value]]) -> Any:
        return self._fill(index, collections.defaultdict(self.value(factory)), pairs)

    def _fill(self, index: int, made: dict[Any, Any], pairs: list[list[Value]]) -> dict[Any, Any]:
        self.made[index] = made
        for key, value in pairs:
            made[self.value(key)] = self.value(value)
        return made

    def _make_counter(self, index: int, pairs: list[list[Value]]) -> Any:
        return self._fill(index, collections.Counter(), pairs)

    def _make_namedtuple(self, _index: int, cls: str, cells: list[Value]) -> Any:
        return self.resolve(cls)(*self._values(cells))

    def _make_tensor(self, _index: int, key: str, role: str, requires_grad: bool) -> Any:  # noqa: FBT001
        import torch

        tensor = self.tensors[key].to(self.device)
        if role == "parameter":
            return torch.nn.Parameter(tensor, requires_grad=requires_grad)
        return tensor

    def _make_array(self, _index: int, key: str) -> Any:
        return self.tensors[key].numpy()

    def _make_strings(self, _index: int, dtype: str, shape: list[int], cells: list[str]) -> Any:
        import numpy as np

        return np.array(cells, dtype=dtype).reshape(shape)

    def _make_numpy(self, _index: int, dtype: str, value: Value) -> Any:
        import numpy as np

        return np.dtype(dtype).type(self.value(value))

    def _make_npdtype(self, _index: int, dtype: str) -> Any:
        import numpy as np

        return np.dtype(dtype)

    def _make_size(self, _index: int, sizes: list[int]) -> Any:
        import torch

        return torch.Size(sizes)

    def _make_torch(self, _index: int, name: str) -> Any:
        import torch

        return getattr(torch, name)

    def _make_device(self, _index: int) -> Any:
        import torch

        return torch.device(self.device)

    def _make_generator(self, _index: int, state: Value) -> Any:
        import torch

        generator = torch.Generator()
        generator.set_state(self.value(state).cpu())
        return generator

    def _make_module(self, _index: int, name: str) -> Any:
        return self.resolve(f"{name}:")

    def _make_partial(self, _index: int, func: Value, args: Value, keywords: Value) -> Any:
        return functools.partial(self.value(func), *self.value(args), **self.value(keywords))

    def _make_method(self, _index: int, owner: Value, name: str) -> Any:
        return getattr(self.value(owner), name)

    def _make_union(self, _index: int, members: list[Value]) -> Any:
        return functools.reduce(operator.or_, self._values(members))

    def _make_alias(self, _index: int, origin: Value, args: list[Value]) -> Any:
        return self.value(origin)[tuple(self._values(args))]

    def _make_bound(self, _index: int, function: Value, owner: Value) -> Any:
        return types.MethodType(self.value(function), self.value(owner))

    def _make_made(self, _index: int, factory: str, cells: list[Value]) -> Any:
        return self.resolve(factory)(*self._values(cells))

    def _make_keras(
        self, _index: int, config: Any, weights: list[Value], own: list[list[Value]]
    ) -> Any:
        from nbaas.deploy.keras_models import choose_backend, remade

        choose_backend()
        parts = {name: self.value(part) for name, part in own}
        return remade(config, self._values(weights), parts, self.device)

    def _make_global(self, _index: int, name: str) -> Any:
        return self.resolve(name)

    def _make_object(self, index: int, name: Value, state: Any, content: Value) -> Any:
        cls = self.resolve(name) if isinstance(name, str) else self.value(name)
        made = cls.__new__(cls)
        self.made[index] = made
        if content is not None:
            made.update(self.value(content)) if isinstance(made, dict) else made.extend(
                self.value(content)
            )
        if isinstance(state, list):  # ["state", [[name, value], ...]]
            restored: Any = {key: self.value(value) for key, value in state[1]}
        else:
            restored = self.value(state)
        if hasattr(made, "__setstate__"):
            made.__setstate__(restored)
        else:
            for key, value in restored.items():
                object.__setattr__(made, key, value)  # a frozen dataclass too
        return made
