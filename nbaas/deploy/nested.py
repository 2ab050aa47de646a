"""Functions and classes that were defined inside a function, and lambdas: as factories of a module.

What stands in a function becomes `def _made_NAME_1(k): ... return NAME`, whose arguments are the
variables it closes over; what these held is written down beside it.  The text is taken from the cell
by the place of the byte code, and is used only if it compiles to that very byte code.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbaas.deploy.definitions import class_functions, substance
from nbaas.errors import DeployError

UNKNOWN = "define it with `def` or `class` at the top of a cell"
EMPTY = object()


@dataclass(frozen=True, slots=True)
class Factory:
    """The text that makes a nested definition again; stands beside the notebook's definitions."""

    name: str
    text: str
    namespace: Mapping[str, Any] = field(repr=False)
    cells: dict[str, Any] = field(repr=False)  # what the free variables held, in the text's order

    @property
    def key(self) -> str:
        return f"__main__:{self.name}"


def is_nested(item: Any) -> bool:
    """Whether a class or function has no name at the top of its module."""
    name = getattr(item, "__qualname__", "")
    return isinstance(item, type | types.FunctionType) and (
        "<lambda>" in name or "<locals>" in name
    )


def factory_of(item: type | types.FunctionType, number: int, path: str) -> Factory:
    """Return the factory of a nested class or function; `number` tells factories apart.

    Raises: DeployError: its text is not known, or it needs a local that left no trace.
    """
    # Of a decorated function the text, decorators included, is that of the one inside.
    functions = _methods(item) if isinstance(item, type) else [inspect.unwrap(item)]
    if not functions:
        raise _refused(item, path, "holds no function its text could be found by")
    cells = _cells(functions)
    node, text = _found(item, functions, path)
    label = "lambda" if isinstance(node, ast.Lambda) else str(item.__name__)
    name = f"_made_{label}_{number}"
    if isinstance(node, ast.Lambda):
        body = f"    return (\n{textwrap.indent(text, '        ')}\n    )\n"
    else:
        body = f"{textwrap.indent(text, '    ')}\n    return {item.__name__}\n"
    made = f"def {name}({', '.join(cells)}):\n{body}"
    _check(item, functions, made, path)
    return Factory(name, made, functions[0].__globals__, cells)


def _methods(cls: type) -> list[types.FunctionType]:
    inside = f"{cls.__qualname__}."
    found = class_functions(cls).values()
    return [f for f in found if f.__code__.co_qualname.startswith(inside)]


def _cells(functions: list[types.FunctionType]) -> dict[str, Any]:
    """Return what the free variables hold; `__class__` is made again by the class statement."""
    found: dict[str, Any] = {}
    for function in functions:
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            if name != "__class__":
                try:
                    found[name] = cell.cell_contents
                except ValueError:  # not assigned yet
                    found[name] = None
    return dict(sorted(found.items()))


def _found(item: Any, functions: list[types.FunctionType], path: str) -> tuple[ast.AST, str]:
    """Return the node that defines `item`, and its text, dedented."""
    code = functions[0].__code__
    source = "".join(linecache.getlines(code.co_filename))
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        raise _refused(item, path, "stands in a cell that cannot be read") from None
    for node in _candidates(tree, item, code):
        segment = ast.get_source_segment(source, node, padded=True)
        if segment is None:
            continue
        decorators = getattr(node, "decorator_list", [])
        if decorators:
            lines = source.splitlines()[decorators[0].lineno - 1 : node.end_lineno]
            segment = "\n".join(lines)
        return node, textwrap.dedent(segment)
    raise _refused(item, path, "is not found in its cell")


def _candidates(tree: ast.AST, item: Any, code: types.CodeType) -> Iterator[Any]:
    """Yield nodes that may be `item`: of its name, around its first line, the innermost first."""
    name = getattr(item, "__name__", "")
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda):
            fits = name == "<lambda>" and _spans(node, code)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            fits = node.name == name and first <= code.co_firstlineno <= (node.end_lineno or first)
        else:
            continue
        if fits:
            found.append(node)
    return iter(sorted(found, key=lambda n: (-n.lineno, -n.col_offset)))


def _spans(node: ast.Lambda, code: types.CodeType) -> bool:
    """Whether the byte code of a lambda stands where the body of `node` does."""
    body = node.body
    start, end = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    places = [
        ((line, column), (last, last_column))
        for line, last, column, last_column in code.co_positions()
        if None not in (line, last, column, last_column) and last_column
    ]
    return bool(places) and max(places, key=_extent) == (start, end)


def _extent(place: tuple[Any, Any]) -> tuple[int, int]:
    (line, column), (last, last_column) = place
    return (last - line, last_column - column)


def _check(item: Any, functions: list[types.FunctionType], made: str, path: str) -> None:
    """Refuse a text that does not compile to the code that runs in the notebook."""
    module = compile(made, "<made>", "exec", dont_inherit=True)
    texts = [substance(code) for code in _inner(module)]
    if any(substance(function.__code__) not in texts for function in functions):
        raise _refused(item, path, "has another text in its cell by now")


def _inner(code: types.CodeType) -> Iterator[types.CodeType]:
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield const
            yield from _inner(const)


def _refused(item: Any, path: str, why: str) -> DeployError:
    name = item.__qualname__.rpartition(".")[2]
    what = "a lambda" if name == "<lambda>" else repr(name)
    where = item.__qualname__.rpartition(".<locals>.")[0]
    inside = f", defined inside {where}()" if where else ""
    return DeployError(f"{path} is {what}{inside}, which {why}", hint=UNKNOWN)


def free_names(item: Any) -> list[Any]:
    """Return what a function closes over, to look for the modules in it."""
    closure = inspect.unwrap(item).__closure__ or ()
    held = []
    for cell in closure:
        try:
            held.append(cell.cell_contents)
        except ValueError:
            continue
    return held
