"""A class or function of the notebook: its text, and the names that each part of it needs.

Found, not executed: the text comes from the cell that its functions were compiled from, so an object
made before the cell was run again takes its own class along.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import inspect
import linecache
import sys
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
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
    body = next(code for code in _inner(module) if code.co_name == name)
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
    for text in _candidates(item, name, sources):
        if text is not None and _is_source_of(text, item):
            return text
    raise DeployError(
        f"the source of {item.__qualname__!r} is not known",
        hint="run the cell that defines it again, then deploy; or move it into a module",
    )


def _candidates(item: Definition, name: str, sources: Mapping[str, str]) -> Iterator[str | None]:
    """Yield statements that may define `item`, the likeliest first."""
    for code in (function.__code__ for function in written_functions(item)):
        yield _statement(_file_text(code.co_filename), name, code.co_firstlineno)
    for given in (sources.get(item.__qualname__), sources.get(name)):
        yield _statement(given, name, None) if given else None
    for filename in reversed(list(linecache.cache)):
        if _is_cell(filename):
            yield _statement(_file_text(filename), name, None)
    with contextlib.suppress(OSError, TypeError):
        yield _statement(textwrap.dedent(inspect.getsource(item)), name, None)


def _is_source_of(text: str, item: Definition) -> bool:
    """Whether the functions of `item` have the byte code that `text` compiles to."""
    module = compile(text, "<candidate>", "exec", dont_inherit=True)
    compiled = {code.co_qualname: substance(code) for code in _nested_codes(module)}
    own = [f.__code__ for f in written_functions(item)]
    return all(compiled.get(code.co_qualname) == substance(code) for code in own)


def substance(code: types.CodeType) -> list[tuple[str, str]]:
    """Return what makes two pieces of code do the same, wherever they stand.

    A call of an attribute compiles differently where its owner is imported in the same text.
    """
    steps: list[tuple[str, str]] = []
    for step in dis.get_instructions(code):
        if isinstance(step.argval, types.CodeType):
            steps += substance(step.argval)
        elif step.opname in ("LOAD_METHOD", "LOAD_ATTR"):
            steps.append(("LOAD_ATTR", step.argval))
        elif step.opname not in ("PUSH_NULL", "PRECALL", "CACHE"):
            jumps = step.opcode in dis.hasjrel or step.opcode in dis.hasjabs
            steps.append((step.opname, "" if jumps else repr(step.argval)))
    return steps


def _nested_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for inner in _inner(code):
        yield inner
        yield from _nested_codes(inner)


def written_functions(item: Definition) -> list[types.FunctionType]:
    """Return the functions that the text of `item` holds, decorators taken off."""
    if isinstance(item, types.FunctionType):
        return [inspect.unwrap(item)]
    inside = f"{item.__qualname__}."
    return [f for f in class_functions(item).values() if f.__code__.co_qualname.startswith(inside)]


def class_functions(item: type) -> dict[str, types.FunctionType]:
    """Return every function in a class by name, also those that were put there afterwards."""
    found = {}
    for name, value in vars(item).items():
        bare = inspect.unwrap(getattr(value, "fget", None) or getattr(value, "__func__", value))
        if isinstance(bare, types.FunctionType):
            found[name] = bare
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


def namespace_of(item: Definition, others: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the globals that the code of `item` sees; `others` are searched for one without code."""
    for function in written_functions(item):
        found: Mapping[str, Any] = function.__globals__
        return found
    name = item.__qualname__.partition(".")[0]
    for namespace in others:
        if namespace.get(name) is item:
            return namespace
    module = sys.modules.get(item.__module__)
    return vars(module) if module else {}
