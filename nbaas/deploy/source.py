"""The notebook's classes and functions as the text of a real module, with the names they need.

Found, not executed: the text of a definition comes from the cell that its functions were compiled
from, so an object made before the cell was run again takes its own class along.  Names are needed
when the body of a definition needs them, or a method that `forward` can reach; what only
`__init__` or a training step needs (a data set, a logger) stays behind, for objects are rebuilt
without their constructor.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import dis
import inspect
import linecache
import textwrap
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbaas.errors import DeployError

NOTEBOOK = "__main__"
MODULE = "nbaas_notebook"  # the name of the written module
LITERAL_LIMIT = 2000  # characters; longer constants travel with the structure
# Methods that torch or the replica calls without naming them in reachable code.
ENTRY_POINTS = frozenset({"forward", "__call__", "__setstate__", "__getstate__", "__getattr__"})
BUILDERS = frozenset({"__init__", "__new__", "__post_init__"})

Definition = type | types.FunctionType


@dataclass(frozen=True, slots=True)
class Needs:
    """Names that a piece of code asks its module for, and attributes it may reach methods by."""

    names: frozenset[str]
    attributes: frozenset[str]

    def __or__(self, other: Needs) -> Needs:
        return Needs(self.names | other.names, self.attributes | other.attributes)


NOTHING = Needs(frozenset(), frozenset())


@dataclass(frozen=True, slots=True)
class Parsed:
    """One top-level definition: its text, what defining it needs, what each method needs."""

    name: str
    text: str
    is_class: bool
    at_definition: Needs
    methods: dict[str, Needs]


def parsed(name: str, text: str) -> Parsed:
    """Return what `text`, one class or function statement, defines and needs."""
    module = compile(text, f"<{name}>", "exec", dont_inherit=True)
    body = next(const for const in module.co_consts if isinstance(const, types.CodeType))
    is_class = isinstance(ast.parse(text).body[0], ast.ClassDef)
    methods: dict[str, Needs] = {}
    at_definition = _own_needs(module)
    if is_class:
        at_definition |= _own_needs(body)
        for code in _inner(body):
            methods[code.co_name] = methods.get(code.co_name, NOTHING) | _all_needs(code)
    else:
        methods[name] = _all_needs(body)
    return Parsed(name, text, is_class, at_definition, methods)


def _inner(code: types.CodeType) -> Iterator[types.CodeType]:
    return (const for const in code.co_consts if isinstance(const, types.CodeType))


def _own_needs(code: types.CodeType) -> Needs:
    """Return what running `code` itself asks for; the bodies of functions in it do not run."""
    names, attributes = set(), set()
    for step in dis.get_instructions(code):
        if not isinstance(step.argval, str):
            continue
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            names.add(step.argval)
        elif step.opname.startswith(("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER", "STORE_ATTR")) or (
            step.opname == "LOAD_CONST" and step.argval.isidentifier()  # getattr(self, "name")
        ):
            attributes.add(step.argval)
    return Needs(frozenset(names), frozenset(attributes))


def _all_needs(code: types.CodeType) -> Needs:
    needs = _own_needs(code)
    for inner in _inner(code):
        needs |= _all_needs(inner)
    return needs


# ---------------------------------------------------------------- the text of a definition


def definition_text(item: Definition, sources: Mapping[str, str]) -> str:
    """Return the statement that defines `item`, dedented, decorators included.

    `sources` maps a qualified name to its source, or to the cell that holds it.
    Raises: DeployError: no text is known for it.
    """
    name = item.__qualname__.partition(".")[0]
    lines_of = _first_lines(item)
    for filename, first in lines_of:
        if text := _statement(_file_text(filename), name, first):
            return text
    given = sources.get(item.__qualname__) or sources.get(name)
    if given and (text := _statement(given, name, None)):
        return text
    for filename in reversed(list(linecache.cache)):
        if _is_cell(filename) and (text := _statement(_file_text(filename), name, None)):
            return text
    try:
        if text := _statement(textwrap.dedent(inspect.getsource(item)), name, None):
            return text
    except (OSError, TypeError):
        pass
    raise DeployError(
        f"the source of {item.__qualname__!r} is not known",
        hint="run the cell that defines it again, then deploy; or move it into a module",
    )


def _first_lines(item: Definition) -> list[tuple[str, int]]:
    """Return where the functions of `item` were compiled: file name and first line."""
    if isinstance(item, types.FunctionType):
        code = inspect.unwrap(item).__code__
        return [(code.co_filename, code.co_firstlineno)]
    found = []
    for value in vars(item).values():
        bare = inspect.unwrap(getattr(value, "fget", None) or getattr(value, "__func__", value))
        code = getattr(bare, "__code__", None)
        if isinstance(code, types.CodeType) and code.co_name != "<lambda>":
            inside = getattr(bare, "__qualname__", "").startswith(item.__qualname__ + ".")
            found += [(code.co_filename, code.co_firstlineno)] if inside else []
    return found


def _is_cell(filename: str) -> bool:
    """Whether `filename` is a cell's; library files are found by import, not by this search."""
    return not filename.endswith(".py") or "ipykernel_" in filename


def _file_text(filename: str) -> str:
    return "".join(linecache.getlines(filename))


def _statement(text: str, name: str, line: int | None) -> str | None:
    """Return the last statement in `text` that defines `name`; with `line`, the one that spans it."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return None
    found = None
    for node in ast.walk(tree):
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, kinds) and node.name == name:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            last = node.end_lineno or node.lineno
            if line is None or first <= line <= last:
                found = (first, last)
    if found is None:
        return None
    return textwrap.dedent("\n".join(text.splitlines()[found[0] - 1 : found[1]])) + "\n"


# ---------------------------------------------------------------- names to the things they mean


def namespace_of(item: Definition) -> Mapping[str, Any]:
    """Return the globals that the code of `item` sees."""
    import sys

    if isinstance(item, types.FunctionType):
        return inspect.unwrap(item).__globals__
    for value in vars(item).values():
        bare = inspect.unwrap(getattr(value, "fget", None) or getattr(value, "__func__", value))
        if isinstance(bare, types.FunctionType) and bare.__module__ == item.__module__:
            return bare.__globals__
    module = sys.modules.get(item.__module__)
    return vars(module) if module else {}


@dataclass(slots=True)
class NotebookSource:
    """Grows by `add`; `text()` is the module, `values` what is set in it beside the text."""

    sources: Mapping[str, str]
    values: dict[str, Any] = field(default_factory=dict)
    used_by: dict[str, str] = field(default_factory=dict)  # value name -> who needs it
    _definitions: dict[str, tuple[Definition, Parsed]] = field(default_factory=dict)
    _imports: dict[str, str] = field(default_factory=dict)  # bound name -> statement
    _constants: dict[str, str] = field(default_factory=dict)
    _aliases: dict[str, str] = field(default_factory=dict)
    _futures: set[str] = field(default_factory=set)
    _reached: set[str] = field(default_factory=lambda: set(ENTRY_POINTS))
    _constructed: set[str] = field(default_factory=set)
    _settled: set[tuple[str, str]] = field(default_factory=set)

    def add(self, item: Definition) -> None:
        """Take `item`, a class or function of the notebook, and all that it needs."""
        self._define(item)
        self._settle()

    def _define(self, item: Definition) -> None:
        name = item.__qualname__.partition(".")[0]
        if name in self._definitions:
            return
        owner = namespace_of(item).get(name)
        top = item if "." not in item.__qualname__ or not isinstance(owner, type) else owner
        self._definitions[name] = (top, parsed(name, definition_text(top, self.sources)))
        self._futures |= set(_futures(top))

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
        yield "", definition.at_definition
        for method, needs in definition.methods.items():
            built = method in BUILDERS and definition.name in self._constructed
            special = method.startswith("__") and method not in BUILDERS
            if (
                not definition.is_class
                or built
                or special
                or method in self._reached
                or (method not in BUILDERS and method.startswith("<"))
            ):
                yield method, needs

    def _take(self, item: Definition, user: str, needs: Needs, in_method: bool) -> None:  # noqa: FBT001
        namespace = namespace_of(item)
        for name in sorted(needs.names):
            if name not in namespace or name in self._definitions:
                # Defined nowhere: it would be a NameError in the notebook too, when it is reached.
                if name in self._definitions and in_method:
                    self._constructed.add(name)
                continue
            value = namespace[name]
            if value is getattr(builtins, name, _Nothing) or name == "__name__":
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
        parts += sorted(self._imports.values()) + sorted(self._constants.values())
        done: set[str] = set()
        for name in self._definitions:
            self._write(name, parts, done)
        parts += [
            f"{name} = {target}" for name, target in self._aliases.items() if name not in done
        ]
        return "\n".join(parts) + "\n"

    def modules(self) -> list[str]:
        """Return the modules that the text imports."""
        statements = ast.parse("\n".join(self._imports.values())).body
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
    return isinstance(value, type | types.FunctionType) and value.__module__ == NOTEBOOK


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
    import sys

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
