"""The notebook's classes and functions as the text of a real module, with the names they need.

Names are needed when the body of a definition needs them, or a method that `forward` can reach; what
only `__init__` or a training step needs (a data set, a logger) stays behind, for objects are rebuilt
without their constructor.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import inspect
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbaas.deploy.definitions import (
    Definition,
    Needs,
    Parsed,
    class_functions,
    definition_text,
    namespace_of,
    parsed,
)
from nbaas.deploy.nested import Factory, is_nested

NOTEBOOK = "__main__"
MODULE = "nbaas_notebook"  # the name of the written module
LITERAL_LIMIT = 2000  # characters; longer constants travel with the structure
# Methods that torch or the replica calls without naming them in reachable code.
ENTRY_POINTS = frozenset({"forward", "__call__", "__setstate__", "__getstate__", "__getattr__"})
BUILDERS = frozenset({"__init__", "__new__", "__post_init__"})


@dataclass(slots=True)
class NotebookSource:
    """Grows by `add`; `text()` is the module, `values` what is set in it beside the text."""

    sources: Mapping[str, str]
    values: dict[str, Any] = field(default_factory=dict)
    used_by: dict[str, str] = field(default_factory=dict)  # value name -> who needs it
    _definitions: dict[str, tuple[Definition | Factory, Parsed]] = field(default_factory=dict)
    _imports: dict[str, str] = field(default_factory=dict)  # bound name -> statement
    _constants: dict[str, str] = field(default_factory=dict)
    _aliases: dict[str, str] = field(default_factory=dict)
    _namespaces: list[Mapping[str, Any]] = field(default_factory=list)
    _patches: list[str] = field(default_factory=list)
    _futures: set[str] = field(default_factory=set)
    _reached: set[str] = field(default_factory=lambda: set(ENTRY_POINTS))
    _constructed: set[str] = field(default_factory=set)
    _settled: set[tuple[str, str]] = field(default_factory=set)

    def add(self, item: Definition, *, constructed: bool = False) -> None:
        """Take `item`, a class or function of the notebook, and all that it needs.

        `constructed`: its objects are made by their constructor, which then travels as well.
        """
        if constructed:
            self._constructed.add(item.__name__)
        self._define(item)
        self._settle()

    def add_factory(self, factory: Factory) -> None:
        """Take a factory of a nested definition, and all that its text needs."""
        self._definitions[factory.name] = (factory, parsed(factory.name, factory.text))
        self._settle()

    def _define(self, item: Definition) -> None:
        name = item.__qualname__.partition(".")[0]
        if name in self._definitions:
            return
        owner = self._namespace(item).get(name)
        top = item if "." not in item.__qualname__ or not isinstance(owner, type) else owner
        self._definitions[name] = (top, parsed(name, definition_text(top, self.sources)))
        self._futures |= set(_futures(top))
        if isinstance(top, type):
            self._define_patches(name, top)

    def _namespace(self, item: Definition | Factory) -> Mapping[str, Any]:
        if isinstance(item, Factory):
            return item.namespace
        found = namespace_of(item, self._namespaces)
        if not any(found is known for known in self._namespaces):
            self._namespaces.append(found)
        return found

    def _define_patches(self, name: str, cls: type) -> None:
        """Take along functions that were set on the class after its definition."""
        for attribute, function in class_functions(cls).items():
            outside = not function.__code__.co_qualname.startswith(f"{cls.__qualname__}.")
            if outside and _is_definition(function) and "." not in function.__qualname__:
                self._define(function)
                self._patches.append(f"{name}.{attribute} = {function.__qualname__}")

    def reach(self, methods: Iterable[str]) -> None:
        """Take methods by name, of any class: bound ones are part of the model."""
        self._reached.update(methods)
        self._settle()

    def _settle(self) -> None:
        """Follow names and attributes until nothing new is reached."""
        changed = True
        while changed:
            changed = False
            for name, (item, definition) in list(self._definitions.items()):
                for part, needs in self._active(definition):
                    if (name, part) not in self._settled:
                        self._settled.add((name, part))
                        self._reached |= needs.attributes
                        self._take(item, f"{name}.{part}" if part else name, needs, bool(part))
                        changed = True

    def _active(self, definition: Parsed) -> Iterator[tuple[str, Needs]]:
        """Yield the parts of a definition that can run, and what each needs."""
        yield "", definition.at_definition
        built = definition.name in self._constructed
        for method, needs in definition.methods.items():
            # Dunder methods are called without being named; '<lambda>' has no name to be reached by.
            unnamed = method.startswith(("__", "<"))
            if method in BUILDERS and definition.is_class:
                runs = built
            else:
                runs = unnamed or not definition.is_class or method in self._reached
            if runs:
                yield method, needs

    def _take(self, item: Definition | Factory, user: str, needs: Needs, in_method: bool) -> None:  # noqa: FBT001
        namespace = self._namespace(item)
        for name in sorted(needs.names):
            if name not in namespace or name in self._definitions:
                # Defined nowhere: it would be a NameError in the notebook too, when it is reached.
                if name in self._definitions and in_method:
                    self._constructed.add(name)
                continue
            value = namespace[name]
            if value is getattr(builtins, name, _Nothing) or name.startswith("__"):
                continue
            self._bind(name, value, user)
            if in_method and isinstance(value, type):
                self._constructed.add(value.__name__)

    def _bind(self, name: str, value: Any, user: str) -> None:
        """Make `name` mean `value` in the written module."""
        if isinstance(value, types.ModuleType):
            if value.__name__ != NOTEBOOK:
                self._imports[name] = _import_module(name, value.__name__)
        elif _is_definition(value):
            self._define(value)
            if value.__qualname__ != name:
                self._aliases[name] = value.__qualname__
        elif (wrapped := _wrapped_definition(value)) is not None and wrapped.__qualname__ == name:
            self._define(wrapped)  # its decorators are in its text: functools.cache, say
        elif statement := _import_from(name, value):
            self._imports[name] = statement
        elif (literal := _literal(value)) is not None:
            self._constants[name] = f"{name} = {literal}"
        else:
            self.values[name] = value
            self.used_by[name] = user

    def text(self) -> str:
        """Return the module: imports, constants, then definitions, each after what it needs."""
        parts = [f"from __future__ import {name}" for name in sorted(self._futures)]
        parts += sorted(self._imports.values()) + sorted(self._submodules())
        parts += sorted(self._constants.values())
        done: set[str] = set()
        for name in self._definitions:
            self._write(name, parts, done)
        parts += [
            f"{name} = {target}" for name, target in self._aliases.items() if name not in done
        ]
        return "\n".join([*parts, *self._patches]) + "\n"

    def _submodules(self) -> Iterator[str]:
        """Yield imports of modules reached as attributes: `import a` alone does not load `a.b`."""
        names = [s.removeprefix("import ").partition(" ")[0] for s in self._imports.values()]
        for module in names:
            for attribute in self._reached if module in sys.modules and module != "torch" else ():
                if isinstance(sys.modules.get(f"{module}.{attribute}"), types.ModuleType):
                    yield f"import {module}.{attribute}"

    def modules(self) -> list[str]:
        """Return the modules that the text imports."""
        statements = ast.parse("\n".join([*self._imports.values(), *self._submodules()])).body
        imported = [s.names[0].name for s in statements if isinstance(s, ast.Import)]
        return imported + [s.module or "" for s in statements if isinstance(s, ast.ImportFrom)]

    def _write(self, name: str, parts: list[str], done: set[str]) -> None:
        if name in done:
            return
        done.add(name)
        if name in self._aliases:
            self._write(self._aliases[name].partition(".")[0], parts, done)
            parts.append(f"{name} = {self._aliases[name]}")
            return
        definition = self._definitions[name][1]
        for needed in sorted(definition.at_definition.names):
            if needed in self._definitions or needed in self._aliases:
                self._write(needed, parts, done)
        parts.append(f"\n\n{definition.text.rstrip()}")


class _Nothing: ...


def _is_definition(value: Any) -> bool:
    """Whether `value` stands under its name at the top of a cell."""
    known = isinstance(value, type | types.FunctionType) and value.__module__ == NOTEBOOK
    return known and not is_nested(value)


def _wrapped_definition(value: Any) -> types.FunctionType | None:
    """Return the function of the notebook that a decorator made something else of."""
    found = inspect.unwrap(value) if hasattr(value, "__wrapped__") else None
    return found if isinstance(found, types.FunctionType) and _is_definition(found) else None


def _futures(item: Definition) -> Iterator[str]:
    """Return the future imports that the code of `item` was compiled with."""
    functions = [item] if isinstance(item, types.FunctionType) else list(vars(item).values())
    codes = [c for f in functions if isinstance(c := getattr(f, "__code__", None), types.CodeType)]
    flag = __future__.annotations.compiler_flag
    if any(code.co_flags & flag for code in codes):
        yield "annotations"


def _import_module(name: str, module: str) -> str:
    return f"import {module}" if name == module else f"import {module} as {name}"


def _import_from(name: str, value: Any) -> str | None:
    """Return the import statement that binds `name` to `value`, None if it is not importable so."""
    found, module = getattr(value, "__name__", None), getattr(value, "__module__", None)
    if not isinstance(found, str) or not isinstance(module, str) or module == NOTEBOOK:
        return None
    if getattr(sys.modules.get(module), found, None) is not value or not found.isidentifier():
        return None
    return f"from {module} import {found}" + ("" if found == name else f" as {name}")


def _literal(value: Any) -> str | None:
    """Return the text of a constant, None where a text would not give it back."""
    if not isinstance(value, int | float | str | bytes | tuple | list | dict | set | type(None)):
        return None
    text = repr(value)
    if len(text) > LITERAL_LIMIT:
        return None
    try:
        return text if ast.literal_eval(text) == value else None
    except (ValueError, SyntaxError, RecursionError, TypeError):
        return None
