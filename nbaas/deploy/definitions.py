"""A class or function of the notebook: its text, and the names that each part of it needs.

Found, not executed: the text comes from the cell that its functions were compiled from, so an object
made before the cell was run again takes its own class along.
"""

from __future__ import annotations

import ast
import dis
import inspect
import linecache
import sys
import textwrap
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nbaas.errors import DeployError

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


def namespace_of(item: Definition) -> Mapping[str, Any]:
    """Return the globals that the code of `item` sees."""
    if isinstance(item, types.FunctionType):
        found: Mapping[str, Any] = inspect.unwrap(item).__globals__
        return found
    for value in vars(item).values():
        bare = inspect.unwrap(getattr(value, "fget", None) or getattr(value, "__func__", value))
        if isinstance(bare, types.FunctionType) and bare.__module__ == item.__module__:
            return bare.__globals__
    module = sys.modules.get(item.__module__)
    return vars(module) if module else {}
