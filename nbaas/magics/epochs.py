"""How many passes a training loop will make, read from its source: for the time that is left."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

WRAPPERS = frozenset({"tqdm", "trange", "track", "notebook_tqdm"})


def epochs_in(source: str, namespace: Mapping[str, Any]) -> int | None:
    """Return the count of the first top-level `for` over a range with a loop inside, else None.

    Where that loop goes over models, each trained in epochs of its own, the count of those.
    """
    for node in ast.parse(source).body:
        if isinstance(node, ast.For) and any(isinstance(n, ast.For) for n in _inside(node)):
            lengths = [_length(loop.iter, namespace) for loop in _around_batches(node)]
            return next((length for length in reversed(lengths) if length), None)
    return None


def _around_batches(loop: ast.For) -> list[ast.For]:
    """Return the loops around the outermost one whose own body calls `backward`; `loop` without one."""
    around, found = list[ast.For](), loop
    while not _calls_backward(found.body):
        around.append(found)
        inner = [each for each in _loops(found.body) if _calls_backward_inside(each)]
        if not inner:
            return [loop]
        found = inner[0]
    return around or [loop]


def _calls_backward_inside(loop: ast.For) -> bool:
    return any(getattr(node, "attr", "") == "backward" for node in _inside(loop))


def _loops(body: list[ast.stmt]) -> list[ast.For]:
    """Return the outermost `for` loops among statements."""
    found: list[ast.For] = []
    for statement in body:
        if isinstance(statement, ast.For):
            found.append(statement)
        else:
            found += _loops([n for n in ast.iter_child_nodes(statement) if isinstance(n, ast.stmt)])
    return found


def _calls_backward(body: list[ast.stmt]) -> bool:
    """Tell whether statements call `backward`, loops inside left out."""
    nodes: list[ast.AST] = list(body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.For):
            continue
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "backward":
            return True
        nodes += ast.iter_child_nodes(node)
    return False


def _inside(loop: ast.For) -> list[ast.AST]:
    return [node for statement in loop.body for node in ast.walk(statement)]


def _length(node: ast.expr, namespace: Mapping[str, Any]) -> int | None:
    if not isinstance(node, ast.Call) or not node.args:
        return None
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in WRAPPERS and isinstance(node.args[0], ast.Call):
        return _length(node.args[0], namespace)
    if name not in ("range", "trange"):
        return None
    bounds = [_number(arg, namespace) for arg in node.args]
    if any(bound is None for bound in bounds):
        return None
    try:
        return len(range(*(bound for bound in bounds if bound is not None))) or None
    except (TypeError, ValueError):
        return None


def _number(node: ast.expr, namespace: Mapping[str, Any]) -> int | None:
    """Return a whole number that is written out, or the value of a name; plus and minus too."""
    if isinstance(node, ast.Constant):
        value = node.value
    elif isinstance(node, ast.Name):
        value = namespace.get(node.id)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        left, right = _number(node.left, namespace), _number(node.right, namespace)
        if left is None or right is None:
            return None
        value = left + right if isinstance(node.op, ast.Add) else left - right
    else:
        value = None
    return value if type(value) is int else None
