"""A cell rewritten so that it can go on from the middle: its top-level loops tell where they are.

Pure.  Statements of the cell, and of the bodies of its `for` and `while` loops at top level, have numbers
in the order of the text.  Only between them is everything that the cell computes with in its names; what
happens inside a function, `with` or `try` cannot be resumed in the middle.
Rule: lines and columns of the user's code stay, so tracebacks show what they always show.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

from nbaas.worker.position import Position

HOOK = "__nbaas__"  # what the rewritten cell calls: nbaas.worker.walk.Walk
ITEM = "__nbaas_item__"
NOTE = "__nbaas_note__"  # calls that nbaas.worker.recorder has put into the cell
_UNMOVED = (ast.ImportFrom,)  # `from __future__` must stay in front
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop whose turns can be told apart."""

    number: int
    line: int
    outer: int | None  # the number of the loop around it
    counts: bool  # over a range written out: its items are known without asking


@dataclass(frozen=True, slots=True)
class Rewritten:
    tree: ast.Module
    loops: dict[int, Loop]
    tops: frozenset[int]  # numbers of the cell's own statements


def rewritten(tree: ast.Module, resume_at: Position | None = None) -> Rewritten:
    """Return the cell with calls of HOOK in it; with `resume_at` it goes on from there."""
    rewriter = _Rewriter(resume_at)
    body = rewriter.block(copy.deepcopy(tree.body), None)
    module = ast.Module(body, tree.type_ignores)
    return Rewritten(ast.fix_missing_locations(module), rewriter.loops, frozenset(rewriter.tops))


def loops_in(source: str) -> list[Loop]:
    """Return the loops of a cell within which a checkpoint can be taken, in order."""
    return list(rewritten(ast.parse(source)).loops.values())


def hidden_loops(source: str) -> list[int]:
    """Return the lines of loops that only functions, `with`, `try` or `if` of the cell hold."""
    known = {loop.line for loop in loops_in(source)}
    found = (
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.For, ast.While))
    )
    return sorted(set(found) - known)


class _Rewriter:
    def __init__(self, resume_at: Position | None) -> None:
        self.loops: dict[int, Loop] = {}
        self.tops: set[int] = set()
        self._resume_at = resume_at
        self._path = {number for number, _ in resume_at.loops} if resume_at else set[int]()
        self._next = 0

    def block(self, body: list[ast.stmt], outer: int | None) -> list[ast.stmt]:
        made: list[ast.stmt] = []
        last = body[-1] if outer is None and body else None
        for statement in body:
            if _is_note(statement):
                # It belongs to the assignment before it, and runs when that does.
                before = made[-1]
                (before.body if isinstance(before, ast.If) and _is_guard(before) else made).append(
                    statement
                )
                continue
            number, self._next = self._next, self._next + 1
            if outer is None:
                self.tops.add(number)
            inner = self._statement(statement, number, outer)
            # The value of a last expression is shown: it stays a statement of the cell's own.
            shown = statement is last and isinstance(statement, ast.Expr)
            made += self._guarded(inner, number, outer, shown=shown)
        return made

    def _guarded(
        self, statement: ast.stmt, number: int, outer: int | None, *, shown: bool
    ) -> list[ast.stmt]:
        future = isinstance(statement, _UNMOVED) and statement.module == "__future__"
        if future or (outer is None and number == 0 and self._resume_at is None):
            return [statement]
        resuming = self._resume_at is not None and not shown
        if resuming and (outer is None or outer in self._path):
            test = _call("enters", number, statement)
            return [ast.copy_location(ast.If(test, [statement], []), statement)]
        if outer is None:
            hook = ast.copy_location(ast.Expr(_call("enters", number, statement)), statement)
            return [hook, statement]
        return [statement]

    def _statement(self, statement: ast.stmt, number: int, outer: int | None) -> ast.stmt:
        if isinstance(statement, ast.For) and not _awaits(statement.iter):
            counts = _is_range(statement.iter)
            self.loops[number] = Loop(number, statement.lineno, outer, counts)
            return self._for(statement, number)
        if isinstance(statement, ast.While) and not _awaits(statement.test):
            self.loops[number] = Loop(number, statement.lineno, outer, counts=True)
            return self._while(statement, number)
        return statement

    def _for(self, loop: ast.For, number: int) -> ast.stmt:
        # The hook is called before the iterable is made, which may draw random numbers.
        over = ast.copy_location(
            ast.Call(_call("over", number, loop.iter), [loop.iter], []), loop.iter
        )
        loop.iter = over
        target = loop.target
        loop.body = self.block(loop.body, number)
        if number in self._path:
            # The names of the turn that is under way are what the checkpoint says.
            item = ast.copy_location(ast.Name(ITEM, ast.Load()), target)
            taking = ast.copy_location(ast.Assign([target], item), target)
            test = ast.UnaryOp(ast.Not(), _call("amid", number, target))
            first = ast.copy_location(ast.If(ast.copy_location(test, target), [taking], []), target)
            loop.target = ast.copy_location(ast.Name(ITEM, ast.Store()), target)
            loop.body = [first, *loop.body]
        return loop

    def _while(self, loop: ast.While, number: int) -> ast.stmt:
        test = loop.test
        if number in self._path:
            test = ast.copy_location(
                ast.BoolOp(ast.Or(), [_call("amid", number, test), test]), test
            )
        turn = _call("turn", number, loop.test)
        loop.test = ast.copy_location(ast.BoolOp(ast.And(), [turn, test]), loop.test)
        loop.body = self.block(loop.body, number)
        return loop


def rebinds_first(body: list[ast.stmt], name: str) -> bool:
    """Return whether each turn through `body` surely sets `name` before anything reads it."""
    for statement in body:
        if isinstance(statement, ast.With):
            return rebinds_first([*map(ast.Expr, _contexts(statement)), *statement.body], name)
        uses = [n for n in _in_order(statement) if isinstance(n, ast.Name) and n.id == name]
        if uses:
            return isinstance(uses[0].ctx, ast.Store) and not hasattr(statement, "body")
    return True


def _contexts(statement: ast.With) -> list[ast.expr]:
    return [item.context_expr for item in statement.items]


def mentions(statements: list[ast.stmt], name: str) -> bool:
    """Return whether statements read or set `name`."""
    nodes = (node for statement in statements for node in ast.walk(statement))
    return any(isinstance(node, ast.Name) and node.id == name for node in nodes)


def makers(tree: ast.Module, names: set[str], before: int) -> list[ast.stmt]:
    """Return the top-level assignments that make `names`, ahead of line `before`: the last of each."""
    found: dict[str, ast.stmt] = {}
    for statement in tree.body:
        if statement.lineno >= before or not isinstance(statement, (ast.Assign, ast.AnnAssign)):
            continue
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            if isinstance(target, ast.Name) and target.id in names:
                found[target.id] = statement
    return sorted(dict.fromkeys(found.values()), key=lambda statement: statement.lineno)


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below `node` in the order they are evaluated, roughly: values before targets."""
    if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
        children: list[ast.AST] = [node.value] if node.value is not None else []
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            children.append(ast.Name(node.target.id, ast.Load()))
        children += targets
    elif isinstance(node, ast.For):
        children = [node.iter, node.target, *node.body, *node.orelse]
    else:
        children = list(ast.iter_child_nodes(node))
    yield node
    for child in children:
        yield from _in_order(child)


def _is_note(statement: ast.stmt) -> bool:
    """Return whether a statement is not the user's: a note of nbaas.worker.recorder."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and getattr(call.func, "id", "") == NOTE


def _is_guard(statement: ast.If) -> bool:
    func = statement.test.func if isinstance(statement.test, ast.Call) else None
    named = func.value if isinstance(func, ast.Attribute) else None
    return isinstance(named, ast.Name) and named.id == HOOK


def _call(method: str, number: int, like: ast.AST) -> ast.Call:
    hook = ast.Attribute(ast.Name(HOOK, ast.Load()), method, ast.Load())
    call = ast.Call(hook, [ast.Constant(number)], [])
    for node in ast.walk(call):
        ast.copy_location(node, like)
    return call


def _is_range(node: ast.expr) -> bool:
    named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return named and node.func.id == "range"  # type: ignore[attr-defined]


def _awaits(node: ast.AST) -> bool:
    return any(isinstance(inside, (ast.Await, *_SCOPES)) for inside in ast.walk(node))
