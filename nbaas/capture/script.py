"""A training cell as a plain script: the statements of the notebook that it rests on, then itself.

A slice backwards through the cells that ran: a statement is taken when it binds a name that is needed
further down, or does something to it.  What only shows something stays out.
"""

from __future__ import annotations

import ast
import builtins
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from nbaas.bundle.contents import Cell, HistoryCell
from nbaas.capture.names import cell_names
from nbaas.capture.plain import imports_for, plain_python
from nbaas.errors import CaptureError

LITERAL_LIMIT = 2000  # characters of a value that is written as its text
_SHOWS = frozenset(["print", "display", "get_ipython", "help", "input"])
_IMPORTS = (ast.Import, ast.ImportFrom)
_BLOCKS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class Statement:
    """One top-level statement of a cell, with its own lines of text."""

    node: ast.stmt
    text: str
    cell: HistoryCell
    reads: frozenset[str]
    late: frozenset[str]  # read when what it defines is used
    binds: frozenset[str]
    surely: frozenset[str]  # bound whatever happens in it
    apart: bool  # an empty line is above it

    @property
    def order(self) -> tuple[int, int, int]:
        return self.cell.number, self.node.lineno, self.node.col_offset


@dataclass(frozen=True, slots=True)
class Script:
    """A cell as a script: its text, the cells it was made from, and what a reader should know."""

    text: str
    cells: tuple[int, ...]  # In numbers
    notices: tuple[str, ...]


def export_script(
    cell: Cell,
    history: Sequence[HistoryCell],
    namespace: Mapping[str, Any],
    *,
    seed: int | None = None,
) -> Script:
    """Return a script that does in one process what `cell` does in the notebook.

    `history` are the cells that ran before, oldest first; `seed` is set right before the cell.
    Raises: CaptureError: a name that the cell needs was made by no cell and has no short text.
    """
    own = plain_python(cell.source).strip("\n")
    needed = set(cell_names(own).needed) - {"subprocess"}
    earlier = [run for run in history if not _same_code(run.source, cell.source)]
    taken, open_names = _slice(needed, earlier, namespace)
    values = "\n".join(_values(sorted(open_names), namespace))
    body = list(_by_cell([s for s in taken if not isinstance(s.node, _IMPORTS)]))
    code = "\n\n".join([*body, own])
    parts = [_header(cell), _imports(taken, code, seed), values, *body]
    if seed is not None:
        parts.append("\n".join(_seeding(seed)))
    parts.append(f"# Cell In[{cell.number}], under %%train\n{own}")
    text = "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"
    cells = tuple(dict.fromkeys(statement.cell.number for statement in taken))
    seeded = seed is not None or any("seed" in s.text for s in taken) or "seed" in own
    notice = "nothing in it seeds torch: its numbers differ from run to run; --seed 0 fixes them"
    return Script(text, cells, () if seeded else (notice,))


def _same_code(first: str, second: str) -> bool:
    """Tell whether two cells are the same but for blank lines: the cell, run before."""
    return [line.rstrip() for line in first.splitlines() if line.strip()] == [
        line.rstrip() for line in second.splitlines() if line.strip()
    ]


def _slice(
    needed: set[str], history: Sequence[HistoryCell], namespace: Mapping[str, Any]
) -> tuple[list[Statement], set[str]]:
    """Return the statements that `needed` rests on, in order, and the names that none binds."""
    statements = [statement for run in history for statement in _statements(run)]
    wanted = set(needed)
    while True:
        taken, open_names = _once(wanted, statements, namespace)
        # A function reads its names when it is called: a later cell may have bound them.
        late = {name for statement in taken for name in statement.late}
        if late <= wanted:
            return taken, {name for name in open_names if not hasattr(builtins, name)}
        wanted |= late


def _once(
    wanted: set[str], statements: list[Statement], namespace: Mapping[str, Any]
) -> tuple[list[Statement], set[str]]:
    taken: list[Statement] = []
    open_names = set(wanted)
    for statement in reversed(statements):
        if statement.binds & open_names or _works_on(statement, open_names, namespace):
            taken.append(statement)
            open_names = (open_names - statement.surely) | statement.reads
    return taken[::-1], open_names


def _statements(run: HistoryCell) -> Iterator[Statement]:
    try:
        source = plain_python(run.source)
        tree = ast.parse(source)
    except (SyntaxError, CaptureError):
        return
    lines = source.split("\n")
    for node in tree.body:
        names = cell_names(ast.unparse(ast.Module([node], [])))
        always = isinstance(node, (*_IMPORTS, ast.FunctionDef, ast.ClassDef, ast.Assign))
        always = always or isinstance(node, ast.AnnAssign | ast.AsyncFunctionDef | ast.With)
        reads, late = frozenset(names.needed), _called_later(node)
        surely = names.bound if always else frozenset[str]()
        text, apart = _text(node, tree, lines)
        yield Statement(node, text, run, reads, late, names.bound, surely, apart)


def _called_later(node: ast.stmt) -> frozenset[str]:
    """Return what a definition reads when it is used: here it counts as used."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return frozenset()
    use = f"{ast.unparse(node)}\n{node.name}"
    return frozenset(cell_names(use).needed)


def _text(node: ast.stmt, tree: ast.Module, lines: list[str]) -> tuple[str, bool]:
    """Return a statement's lines with the comments right above; its own part of a shared line.

    Also whether an empty line is above it.
    """
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    last = node.end_lineno or node.lineno
    others = [n for n in tree.body if n is not node]
    if any(n.lineno <= last and first <= (n.end_lineno or n.lineno) for n in others):
        return ast.get_source_segment("\n".join(lines), node) or ast.unparse(node), False
    while first > 1 and lines[first - 2].startswith("#"):
        first -= 1
    return "\n".join(lines[first - 1 : last]), first > 1 and not lines[first - 2].strip()


def _works_on(statement: Statement, names: set[str], namespace: Mapping[str, Any]) -> bool:
    """Tell whether a statement that binds no needed name may change what one of them means."""
    node = statement.node
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        root = _root(node.value.func)
        called = node.value.func.attr if isinstance(node.value.func, ast.Attribute) else root
        if root in _SHOWS:
            return False
        if "seed" in called:
            return True
        touched = statement.reads if root in statement.reads else statement.reads - {root}
        if isinstance(namespace.get(root), ModuleType):
            # A function of a library on our values may change them; one that plots does not.
            return "plt" not in root and bool(_values_in(touched - {root}, namespace) & names)
        return bool(_values_in(touched, namespace) & names)
    if isinstance(node, ast.Assign | ast.AugAssign | ast.Delete):
        targets = node.targets if not isinstance(node, ast.AugAssign) else [node.target]
        return any(_root(target) in names for target in targets if not isinstance(target, ast.Name))
    if isinstance(node, ast.For | ast.While | ast.If | ast.With | ast.Try):
        inner = [child for child in ast.walk(node) if isinstance(child, ast.Expr | ast.AugAssign)]
        roots = {_root(c.value.func) for c in inner if isinstance(c.value, ast.Call)}
        return bool(_values_in(frozenset(roots), namespace) & names)
    return False


def _values_in(names: frozenset[str], namespace: Mapping[str, Any]) -> set[str]:
    """Return the names that stand for something other than a module, function or class."""
    passive = (ModuleType, type)
    found = {name for name in names if not isinstance(namespace.get(name), passive)}
    return {
        name
        for name in found
        if not callable(namespace.get(name)) or hasattr(namespace[name], "state_dict")
    }


def _root(node: ast.expr) -> str:
    """Return the name at the front of `a.b[c].d(...)`, '' where there is none."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call | ast.Starred):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


# ---- text --------------------------------------------------------------------------------------


def _header(cell: Cell) -> str:
    return (
        f'"""Cell In[{cell.number}] of a notebook and what it rests on, exported by nbaas.\n\n'
        'Runs in one process; under %%train the same cell runs on many.\n"""'
    )


def _imports(taken: list[Statement], code: str, seed: int | None) -> str:
    """Return the imports of all cells, each once; future ones first."""
    texts = dict.fromkeys(s.text for s in taken if isinstance(s.node, _IMPORTS))
    first = [text for text in texts if text.startswith("from __future__")]
    rest = [text for text in texts if not text.startswith("from __future__")]
    seeding = (
        [f"import {name}" for name in ("random", "numpy", "torch")] if seed is not None else []
    )
    needed = [line for line in seeding if line not in texts]
    return "\n".join([*first, *needed, *rest, *imports_for(code)])


def _seeding(seed: int) -> list[str]:
    """Return what `--seed` does on every rank before the cell."""
    return [
        f"# --seed {seed}",
        f"random.seed({seed})",
        f"numpy.random.seed({seed})",
        f"torch.manual_seed({seed})",
    ]


def _values(names: list[str], namespace: Mapping[str, Any]) -> Iterator[str]:
    """Yield assignments for names that no cell binds."""
    lost = []
    for name in names:
        if name not in namespace or name == "display":
            continue
        text = repr(namespace[name])
        try:
            same = len(text) <= LITERAL_LIMIT and ast.literal_eval(text) == namespace[name]
        except (ValueError, SyntaxError):
            same = False
        if same:
            yield f"{name} = {text}"
        else:
            lost.append(name)
    if lost:
        raise CaptureError(
            f"{', '.join(lost)}: made by no cell of this notebook, and too long to write out",
            hint="run the cell that makes it again, or make it in the training cell",
        )


def _by_cell(statements: list[Statement]) -> Iterator[str]:
    for number in dict.fromkeys(s.cell.number for s in statements):
        own = sorted((s for s in statements if s.cell.number == number), key=lambda s: s.order)
        lines = [f"# Cell In[{number}]", own[0].text]
        for before, statement in itertools.pairwise(own):
            if isinstance(before.node, _BLOCKS) or isinstance(statement.node, _BLOCKS):
                lines += ["", ""]
            elif statement.apart:
                lines.append("")
            lines.append(statement.text)
        yield "\n".join(lines)
