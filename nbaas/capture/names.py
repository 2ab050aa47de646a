"""Names that a cell needs from the notebook: those it may read before it has bound them itself.

Follows the cell's statements in order.  A function or class that the cell defines needs its names
when it is mentioned; one of the notebook likewise, through `reads_of`.  What is bound in the body of
a loop or a `try` counts as bound after it, yet is remembered as needed *perhaps*.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nbaas.capture.syntax import global_reads, leaves, magic_code, shell_reads, signature

ReadsOf = Callable[[str], Iterable[str]]
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class CellNames:
    """What the text of a cell says about names."""

    needed: tuple[str, ...]  # read before the cell binds them
    perhaps: tuple[str, ...]  # read where only a loop that never ran leaves them unbound
    bound: frozenset[str]  # by the cell's own statements


def cell_names(source: str, reads_of: ReadsOf = lambda _: ()) -> CellNames:
    """Return the names that the cell needs and binds; `reads_of` gives those of a notebook name."""
    flow = _Flow(reads_of)
    flow.block(ast.parse(source).body)
    perhaps = tuple(name for name in flow.perhaps if name not in flow.needed)
    return CellNames(tuple(flow.needed), perhaps, frozenset(flow.ever))


class _Flow(ast.NodeVisitor):
    """Walks the top level of a cell; `sure` and `likely` are what is bound at the present place."""

    def __init__(self, reads_of: ReadsOf) -> None:
        self._reads_of = reads_of
        self.sure: set[str] = set()
        self.likely: set[str] = set()
        self.ever: set[str] = set()
        self.needed: dict[str, None] = {}
        self.perhaps: dict[str, None] = {}
        self._own: dict[str, tuple[str, ...]] = {}  # definitions of this cell -> what they read
        self._mentioned: set[tuple[str, frozenset[str]]] = set()
        self._local: list[set[str]] = []  # variables of the comprehensions around this place

    # ---- reading and binding -----------------------------------------------------------------

    def read(self, name: str) -> None:
        if any(name in local for local in self._local):
            return
        if name not in self.sure:
            if name not in self.likely:
                self.needed.setdefault(name)
            else:
                self.perhaps.setdefault(name)
        self._follow(name)

    def _follow(self, name: str) -> None:
        """Read what the definition behind `name` reads, as it may be called from here on."""
        reads = self._own.get(name)
        if reads is None:
            reads = () if name in self.sure else tuple(self._reads_of(name))
        key = (name, frozenset(set(reads) - self.sure))
        if not key[1] or key in self._mentioned:
            return
        self._mentioned.add(key)
        for other in reads:
            self.read(other)

    def bind(self, name: str) -> None:
        self.sure.add(name)
        self.likely.add(name)
        self.ever.add(name)
        self._own.pop(name, None)

    def block(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            self.visit(statement)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.read(node.id)
        elif isinstance(node.ctx, ast.Store):
            self.bind(node.id)
        else:
            self.read(node.id)
            self.sure.discard(node.id)
            self.likely.discard(node.id)

    # ---- statements whose order matters ------------------------------------------------------

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.annotation)
        if node.value is not None:
            self.visit(node.value)
            self.visit(node.target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.read(node.target.id)
        self.visit(node.value)
        self.visit(node.target)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self.bind(node.target.id)  # also out of a comprehension

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.bind(alias.asname or alias.name.partition(".")[0])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name != "*":
                self.bind(alias.asname or alias.name)

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        self._branches([node.body, node.orelse])

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        before = (set(self.sure), set(self.likely))
        ends = [before]
        for case in node.cases:
            self.sure, self.likely = set(before[0]), set(before[1])
            for part in ast.walk(case.pattern):
                name = getattr(part, "name", None) or getattr(part, "rest", None)
                if isinstance(name, str):
                    self.bind(name)
            self.visit(case.pattern)
            if case.guard is not None:
                self.visit(case.guard)
            self.block(case.body)
            ends.append((self.sure, self.likely))
        self._join(ends)

    def _branches(self, branches: list[list[ast.stmt]]) -> None:
        before = (set(self.sure), set(self.likely))
        ends = []
        for branch in branches:
            self.sure, self.likely = set(before[0]), set(before[1])
            self.block(branch)
            if not leaves(branch):
                ends.append((self.sure, self.likely))
        self._join(ends or [before])

    def _join(self, ends: list[tuple[set[str], set[str]]]) -> None:
        self.sure = set.intersection(*(sure for sure, _ in ends))
        self.likely = set.intersection(*(likely for _, likely in ends))

    def _maybe(self, *blocks: list[ast.stmt]) -> None:
        """Walk blocks that may be cut short or not run at all; they are likely to run whole."""
        sure = set(self.sure)
        for block in blocks:
            self.block(block)
        self.sure = sure & self.sure

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        sure = set(self.sure)
        self.visit(node.target)
        self.block(node.body)
        self.sure = sure & self.sure
        self._maybe(node.orelse)

    def visit_AsyncFor(self, node: ast.AsyncFor) -> None:
        self.visit_For(node)

    def visit_While(self, node: ast.While) -> None:
        self.visit(node.test)
        if isinstance(node.test, ast.Constant) and node.test.value:
            self.block(node.body)
        else:
            self._maybe(node.body, node.orelse)

    def visit_Try(self, node: ast.Try) -> None:
        before = set(self.sure)
        self.block(node.body)
        self.block(node.orelse)
        ends = [set(self.sure)]
        likely = set(self.likely)
        for handler in node.handlers:
            self.sure = set(before)
            if handler.type is not None:
                self.visit(handler.type)
            if handler.name:
                self.bind(handler.name)
            self.block(handler.body)
            if not leaves(handler.body):
                ends.append(set(self.sure))
        self.sure = set.intersection(*ends)
        self.likely |= likely
        self.block(node.finalbody)

    def visit_TryStar(self, node: ast.TryStar) -> None:
        self.visit_Try(node)  # type: ignore[arg-type]

    # ---- definitions: their bodies run later -------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.at_definition(node)
        self.bind(node.name)
        self._own[node.name] = global_reads(node)
        if node.decorator_list:  # a decorator may call it at once, or register it
            self._follow(node.name)

    def at_definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for part in (*node.decorator_list, *signature(node.args), node.returns):
            if part is not None:
                self.visit(part)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in (*node.decorator_list, *node.bases, *(k.value for k in node.keywords)):
            self.visit(part)
        inside = _Flow(lambda _: ())
        for statement in node.body:
            if isinstance(statement, _FUNCTIONS):
                inside.at_definition(statement)
            else:
                inside.visit(statement)
        for name in inside.needed:
            self.read(name)
        self.bind(node.name)
        methods = [s for s in ast.walk(node) if isinstance(s, (*_FUNCTIONS, ast.Lambda))]
        self._own[node.name] = tuple(dict.fromkeys(n for m in methods for n in global_reads(m)))

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for part in signature(node.args):
            self.visit(part)
        for name in global_reads(node):
            self.read(name)

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
    ) -> None:
        local: set[str] = set()
        self._local.append(local)
        for clause in node.generators:
            self.visit(clause.iter)
            local |= {n.id for n in ast.walk(clause.target) if isinstance(n, ast.Name)}
            for condition in clause.ifs:
                self.visit(condition)
        for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self.visit(part)
        self._local.pop()

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = _comprehension  # noqa: N815

    # ---- magics that hold code ---------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        if (code := magic_code(node)) is not None:
            self.block(ast.parse(code).body)
        for name in shell_reads(node):
            self.read(name)
        self.generic_visit(node)
