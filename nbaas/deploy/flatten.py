"""From an object graph to JSON and a table of tensors: what pickle does, without its opcodes.

A value is a JSON scalar or `{"ref": i}` into `nodes`; a node is `[kind, ...]`, read again by
`rebuild`.  What has no honest form here (locks, open files, generators, lambdas) is refused by its
path.  Rule: identity is kept; what was one object (tied weights, a shared submodule) is one again.
"""

from __future__ import annotations

import builtins
import collections
import enum
import functools
import importlib
import inspect
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any

from nbaas.deploy.atoms import atom_node
from nbaas.deploy.keras_models import (
    check_constructor,
    configuration,
    is_keras,
    layer_class,
    own_parts,
)
from nbaas.deploy.nested import factory_of, is_nested
from nbaas.errors import DeployError

Value = Any  # a JSON scalar or {"ref": index}

# Attributes of a module that mean something to a trainer only; a copy to serve starts without them.
TRANSIENT_STATE = frozenset(
    {"_trainer", "_fabric", "_compiled_call_impl", "_log_hyperparams", "__orig_class__"}
)
GRADIENT_HOOKS = ("_backward_hooks", "_backward_pre_hooks")


@dataclass(slots=True)
class Structure:
    """`nodes` and `root` are JSON; `tensors` holds the very tensors and arrays by their key."""

    root: Value
    nodes: list[list[Any]]
    tensors: dict[str, Any]
    globals_used: dict[str, Any]  # 'module:qualname' -> the class or function

    def to_json(self) -> dict[str, Any]:
        return {"root": self.root, "nodes": self.nodes}


def flatten(root: Any, names: dict[int, str] | None = None, what: str = "model") -> Structure:
    """Return `root` as a structure; `names` gives tensors their key by `id`.

    Raises: DeployError: something below `root` cannot be written down, named by its path.
    """
    return Encoder(names or {}).structure(root, what)


@dataclass(slots=True)
class Encoder:
    """Walks one object graph; `keep` holds what was made on the way, so that no id is used twice."""

    names: dict[int, str]
    nodes: list[list[Any]] = field(default_factory=list)
    tensors: dict[str, Any] = field(default_factory=dict)
    globals_used: dict[str, Any] = field(default_factory=dict)
    constructed: set[str] = field(default_factory=set)  # classes that need their constructor
    seen: dict[int, int] = field(default_factory=dict)
    keep: list[Any] = field(default_factory=list)

    def structure(self, root: Any, what: str) -> Structure:
        return Structure(self.value(root, what), self.nodes, self.tensors, self.globals_used)

    def value(self, item: Any, path: str) -> Value:
        item = _uncompiled(item)
        if item is None or isinstance(item, bool) or type(item) in (int, str):
            return item
        if type(item) is float and math.isfinite(item):
            return item
        if id(item) in self.seen:
            return {"ref": self.seen[id(item)]}
        index = len(self.nodes)
        self.seen[id(item)] = index
        self.keep.append(item)
        self.nodes.append([])  # the place is taken first: the object may contain itself
        try:
            self.nodes[index] = self._node(item, path)
        except RecursionError:
            raise DeployError(f"{path} is nested too deeply to be written down") from None
        return {"ref": index}

    def _node(self, item: Any, path: str) -> list[Any]:
        """Return the node of `item`; the first kind that knows it wins."""
        kinds = (self._scalar, self._container, self._torch, self._annotation, self._code)
        for kind in (*kinds, self._keras, self._plain_object):
            if (node := kind(item, path)) is not None:
                return node
        raise DeployError(
            f"{path} is a {_type_name(item)}, which cannot be deployed", hint=_WAY_OUT
        )

    def _scalar(self, item: Any, path: str) -> list[Any] | None:
        if isinstance(item, enum.Enum):
            return ["enum", self._global(type(item), path), item.name]
        if _type_name(item) == "torch._C.Generator":
            return ["generator", self.value(item.get_state(), f"{path}.state")]
        if type(item) is slice:
            parts = (item.start, item.stop, item.step)
            return ["slice", *(self.value(part, path) for part in parts)]
        return atom_node(item)

    def _container(self, item: Any, path: str) -> list[Any] | None:
        kind = type(item)
        if kind in _SEQUENCES:
            rows = sorted(item, key=repr) if kind in (set, frozenset) else item
            return [kind.__name__, [self.value(row, f"{path}[{i}]") for i, row in enumerate(rows)]]
        if kind in (dict, collections.OrderedDict):
            return [kind.__name__, self._pairs(item, path)]
        if kind is collections.defaultdict:
            return ["defaultdict", self.value(item.default_factory, path), self._pairs(item, path)]
        if kind is collections.Counter:
            return ["counter", self._pairs(item, path)]
        if kind is types.MappingProxyType:
            return ["dict", self._pairs(item, path)]
        if isinstance(item, tuple) and hasattr(kind, "_fields"):
            cells = [self.value(cell, f"{path}.{kind._fields[i]}") for i, cell in enumerate(item)]
            return ["namedtuple", self._global(kind, path), cells]
        return None

    def _pairs(self, item: Any, path: str) -> list[list[Value]]:
        return [
            [self.value(key, f"a key of {path}"), self.value(value, _entry(path, key))]
            for key, value in item.items()
        ]

    def _torch(self, item: Any, path: str) -> list[Any] | None:
        import numpy as np
        import torch

        if isinstance(item, torch.Tensor):
            return self._tensor(item, path)
        if isinstance(item, np.ndarray):
            return self._array(item, path)
        if isinstance(item, np.generic):
            return ["numpy", item.dtype.str, self.value(item.item(), path)]
        if isinstance(item, np.dtype):
            return ["npdtype", item.str]
        if isinstance(item, torch.Size):
            return ["size", list(item)]
        if isinstance(item, torch.dtype | torch.memory_format | torch.layout):
            return ["torch", str(item).removeprefix("torch.")]
        if isinstance(item, torch.device):
            return ["device"]  # where the replica runs it, not where the notebook did
        return None

    def _tensor(self, item: Any, path: str) -> list[Any]:
        import torch

        if type(item) not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer):
            raise DeployError(f"{path} is a {_type_name(item)}, not a plain tensor", hint=_WAY_OUT)
        if item.is_meta or item.layout is not torch.strided or item.is_quantized:
            kind = "meta" if item.is_meta else str(item.layout).removeprefix("torch.")
            raise DeployError(
                f"{path} is a {kind} tensor, only dense ones can be deployed",
                hint="make it dense with .to_dense() or dequantize() before %deploy",
            )
        key = self._key(item, path)
        self.tensors[key] = item
        role = "parameter" if isinstance(item, torch.nn.Parameter) else "tensor"
        return ["tensor", key, role, bool(item.requires_grad and item.is_leaf)]

    def _array(self, item: Any, path: str) -> list[Any]:
        if item.dtype.kind in "biuf":
            key = self._key(item, path)
            self.tensors[key] = item
            return ["array", key]
        if item.dtype.kind in "US":
            return ["strings", item.dtype.str, list(item.shape), item.ravel().tolist()]
        raise DeployError(f"{path} is an array of {item.dtype}, which cannot be deployed")

    def _key(self, item: Any, path: str) -> str:
        key = self.names.get(id(item)) or path.removeprefix("model.")
        while key in self.tensors:
            key += "_"
        return key

    def _annotation(self, item: Any, path: str) -> list[Any] | None:
        """Return the node of a type like `int | None` or `list[T]`, None for any other value."""
        origin = typing.get_origin(item)
        if origin is None:
            return None
        args = [None if a is type(None) else a for a in typing.get_args(item)]
        cells = [self.value(a, path) for a in args]
        union = origin in (typing.Union, types.UnionType)
        return ["union", cells] if union else ["alias", self.value(origin, path), cells]

    def _code(self, item: Any, path: str) -> list[Any] | None:
        if isinstance(item, types.ModuleType):
            return ["module", item.__name__]
        if isinstance(item, functools.partial):
            parts = (item.func, list(item.args), dict(item.keywords))
            return ["partial", *(self.value(part, path) for part in parts)]
        if isinstance(item, types.MethodType):
            owner = self.value(item.__self__, path)
            if _is_own_method(item):
                return ["method", owner, item.__name__]
            return ["bound", self.value(item.__func__, path), owner]
        if is_nested(item):
            return self._made(item, path)
        if isinstance(item, type | types.FunctionType | types.BuiltinFunctionType):
            return ["global", self._global(item, path)]
        if callable(item) and _found_again(item):
            return ["global", self._global(item, path)]
        return None

    def _made(self, item: Any, path: str) -> list[Any]:
        """Return the node of a lambda, or of what was defined inside a function."""
        made = sum(1 for key in self.globals_used if ":_made_" in key)
        factory = factory_of(item, made + 1, path)
        self.globals_used[factory.key] = factory
        cells = [self.value(v, f"{path} ({name})") for name, v in factory.cells.items()]
        return ["made", factory.key, cells]

    def _keras(self, item: Any, path: str) -> list[Any] | None:
        if not is_keras(item):
            return None
        config = configuration(item, path)
        parts = own_parts(item, config)
        if parts:
            check_constructor(item, config, parts, path)
        own = [[name, self.value(part, name)] for name, part in parts.items()]
        self.constructed |= {f"{p.__module__}:{p.__qualname__}" for p in parts.values()}
        self.globals_used["keras:Layer"] = layer_class()
        weights = [self.value(w.value.detach(), f"{path}.{w.path}") for w in item.weights]
        return ["keras", config, weights, own]

    def _plain_object(self, item: Any, path: str) -> list[Any] | None:
        """Return the node of an object whose whole state is its `__dict__` (or `__getstate__`)."""
        cls = type(item)
        custom = {"__reduce__", "__reduce_ex__"} & set(_defined(cls))
        if custom:
            return None
        content = None
        if isinstance(item, dict | list):
            base = dict if isinstance(item, dict) else list
            content = self.value(base(item), path)
        elif not issubclass(cls, _plain_base(cls)):
            return None
        state = _state_of(item, path)
        name = self.value(cls, path) if is_nested(cls) else self._global(cls, path)
        if not isinstance(state, dict):
            return ["object", name, self.value(state, path), content]
        self._check_module(item, path)
        kept = _served_state(item, state)
        pairs = [[key, self.value(value, f"{path}.{key}")] for key, value in kept.items()]
        return ["object", name, ["state", pairs], content]

    def _check_module(self, item: Any, path: str) -> None:
        import torch

        if isinstance(item, torch.jit.ScriptModule | torch.fx.GraphModule):
            raise DeployError(
                f"{path} is a {_type_name(item)}, compiled code without a class of its own",
                hint="deploy the module it was made from",
            )

    def _global(self, item: Any, path: str) -> str:
        """Return 'module:qualname' of a class or function; it can be found again by that."""
        name, module = getattr(item, "__qualname__", item.__name__), item.__module__
        module = module or ("builtins" if hasattr(builtins, name) else "torch")
        if isinstance(item, types.BuiltinFunctionType) and _found_again(item):
            name = item.__name__  # torch.relu calls itself _VariableFunctionsClass.relu
        if "<locals>" in name:
            where = name.rpartition(".<locals>.")[0]
            raise DeployError(
                f"{path} is {name.rpartition('.')[2]!r}, defined inside {where}()",
                hint="define it at the top of a cell, or in a module",
            )
        key = f"{module}:{name}"
        self.globals_used[key] = item
        return key


_WAY_OUT = "delete the attribute before %deploy, or leave it out in the class's __getstate__"
HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE
_SEQUENCES = (list, tuple, set, frozenset, collections.deque)


def _uncompiled(item: Any) -> Any:
    """Return what torch.compile was given, where `item` is what it gave."""
    if type(item).__name__ == "OptimizedModule" and hasattr(item, "_orig_mod"):
        return item._orig_mod  # noqa: SLF001 - torch has no public name for it
    return getattr(item, "_torchdynamo_orig_callable", item) if callable(item) else item


def _is_own_method(item: types.MethodType) -> bool:
    """Whether the owner's class gives this very function under its name."""
    owner = item.__self__ if isinstance(item.__self__, type) else type(item.__self__)
    found = inspect.getattr_static(owner, item.__name__, None)
    return getattr(found, "__func__", found) is item.__func__


def _state_of(item: Any, path: str) -> Any:
    """Return what `item` holds; what its own __getstate__ raises is told by its path."""
    if "__getstate__" not in _defined(type(item)):
        return _attributes(item)
    try:
        return item.__getstate__()
    except Exception as raised:
        reason = str(raised).strip().partition("\n")[0]
        raise DeployError(
            f"{path} ({_type_name(item)}) cannot be written down: {reason}"
        ) from raised


def _entry(path: str, key: Any) -> str:
    """Return how a reader finds `key` below `path`; the registries of a module do not show."""
    for registry in ("._modules", "._parameters", "._buffers"):
        if path.endswith(registry):
            return f"{path.removesuffix(registry)}.{key}"
    return f"{path}[{key!r}]"


def _type_name(item: Any) -> str:
    cls = type(item)
    return (
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    )


def _defined(cls: type) -> set[str]:
    """Return the names that `cls` and its bases define, `object` and the containers left out."""
    bases = [base for base in cls.__mro__ if base not in (object, dict, list)]
    return {name for base in bases for name in vars(base)}


def _attributes(item: Any) -> dict[str, Any]:
    """Return what `item` holds, in its `__dict__` and in slots."""
    slots: list[str] = []
    for base in type(item).__mro__:
        names = vars(base).get("__slots__", ())
        slots += [names] if isinstance(names, str) else list(names)
    held = {name: getattr(item, name) for name in slots if hasattr(item, name)}
    return {k: v for k, v in held.items() if k not in ("__dict__", "__weakref__")} | getattr(
        item, "__dict__", {}
    )


def _served_state(item: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of an object as it will serve: no trainer, no hooks on gradients."""
    import torch

    kept = {key: value for key, value in state.items() if key not in TRANSIENT_STATE}
    if isinstance(item, torch.nn.Module):
        kept |= {key: collections.OrderedDict() for key in GRADIENT_HOOKS if key in kept}
    return kept


def _plain_base(cls: type) -> type:
    """Return `object` where instances hold no C state of their own, else a type nobody has."""
    for base in cls.__mro__:
        if base is object:
            return object
        # A class statement gives a dict or slots; a C type has neither, or is no heap type.
        if not base.__flags__ & HEAP_TYPE or not (base.__dictoffset__ or "__slots__" in vars(base)):
            break
    return _Nobody


class _Nobody: ...


def _found_again(item: Any) -> bool:
    """Whether `item` is what its module holds under its name: torch's ops are such objects."""
    module, name = getattr(item, "__module__", None), getattr(item, "__name__", None)
    if not isinstance(name, str):
        return False
    try:
        return getattr(importlib.import_module(module or "torch"), name, None) is item
    except ImportError:
        return False
