"""The text behind captured functions and classes, and nothing else of the cells that hold it."""

from __future__ import annotations

import ast
import linecache
import textwrap
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nbaas.bundle.contents import Cell, HistoryCell

_DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

HEADER = '''"""Functions and classes of the notebook, as its cells define them; written by nbaas.

A process that runs this as its main module gets them in the state they had when the run began.
"""

from nbaas.bundle.cells import restore_main

restore_main(__file__, globals())

if False:
    ...
'''


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of a cell, from 1, both included; a definition's, or those of a lambda."""

    file_name: str
    first: int
    last: int
    definition: bool


class CellTexts:
    """Finds definitions in the cells that ran."""

    def __init__(self, history: Sequence[HistoryCell]) -> None:
        self._history = history
        self._by_name: Mapping[str, HistoryCell] = {cell.file_name: cell for cell in history}
        self._trees: dict[str, ast.Module | None] = {}

    def source(self, file_name: str) -> str:
        cell = self._by_name.get(file_name)
        return cell.source if cell else "".join(linecache.getlines(file_name))

    def _tree(self, file_name: str) -> ast.Module | None:
        if file_name not in self._trees:
            try:
                self._trees[file_name] = ast.parse(self.source(file_name))
            except SyntaxError:
                self._trees[file_name] = None
        return self._trees[file_name]

    def lines_of_code(self, code: types.CodeType) -> Lines | None:
        """Return the outermost definition that `code` was compiled in, or its lambda's lines."""
        tree = self._tree(code.co_filename)
        if tree is None:
            return None
        around: list[ast.AST] = [
            node
            for node in ast.walk(tree)
            if isinstance(node, (*_DEFINITIONS, ast.Lambda))
            and _first_line(node) <= code.co_firstlineno <= _last_line(node)
        ]
        if not around:
            return None
        # Breadth first: the outermost definition is met before those in it.
        node = next((n for n in around if isinstance(n, _DEFINITIONS)), around[0])
        return Lines(
            code.co_filename, _first_line(node), _last_line(node), isinstance(node, _DEFINITIONS)
        )

    def lines_of_class(self, cls: type) -> Lines | None:
        """Return the last definition of a class by its name, for one without methods."""
        top = cls.__qualname__.partition(".")[0]
        for cell in reversed(self._history):
            tree = self._tree(cell.file_name)
            for node in reversed(tree.body if tree else []):
                if isinstance(node, _DEFINITIONS) and node.name == top:
                    return Lines(
                        cell.file_name, _first_line(node), _last_line(node), definition=True
                    )
        return None

    def number(self, file_name: str) -> int:
        cell = self._by_name.get(file_name)
        return cell.number if cell else 0


def _first_line(node: ast.AST) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min([int(node.lineno), *(int(d.lineno) for d in decorators)])  # type: ignore[attr-defined]


def _last_line(node: ast.AST) -> int:
    return int(node.end_lineno)  # type: ignore[attr-defined]


def travelling_texts(
    texts: CellTexts, codes: Iterable[types.CodeType], classes: Iterable[type]
) -> tuple[tuple[Cell, ...], str]:
    """Return the needed lines of each cell, in place, and the definitions among them as a module."""
    found: dict[Lines, None] = {}
    with_code = set()
    for code in codes:
        lines = texts.lines_of_code(code)
        if lines is not None:
            found.setdefault(lines)
            with_code.add(code.co_qualname.partition(".")[0])
    for cls in classes:
        if cls.__qualname__.partition(".")[0] not in with_code:
            lines = texts.lines_of_class(cls)
            if lines is not None:
                found.setdefault(lines)
    cells = []
    for file_name in dict.fromkeys(lines.file_name for lines in found):
        own = [lines for lines in found if lines.file_name == file_name]
        source = _only(texts.source(file_name), own)
        cells.append(Cell(texts.number(file_name), source, file_name))
    ordered = sorted(
        (lines for lines in found if lines.definition),
        key=lambda lines: (texts.number(lines.file_name), lines.first),
    )
    return tuple(cells), _module(texts, ordered)


def _only(source: str, kept: list[Lines]) -> str:
    lines = source.split("\n")
    wanted = {number for part in kept for number in range(part.first, part.last + 1)}
    return "\n".join(line if n in wanted else "" for n, line in enumerate(lines, 1)).rstrip("\n")


def _module(texts: CellTexts, ordered: list[Lines]) -> str:
    """Return the definitions as one module, behind the call that gives them their state."""
    parts = [HEADER]
    for lines in ordered:
        own = texts.source(lines.file_name).split("\n")[lines.first - 1 : lines.last]
        number = texts.number(lines.file_name)
        head = f"# Cell In[{number}], line {lines.first}\n" if number else ""
        parts.append(textwrap.indent(head + textwrap.dedent("\n".join(own)) + "\n", "    "))
    return "\n".join(parts)
