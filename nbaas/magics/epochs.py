"""How many passes a training loop will make, read from its source: for the time that is left."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

WRAPPERS = frozenset({"tqdm", "trange", "track", "notebook_tqdm"})


def epochs_in(source: str, namespace: Mapping[str, Any]) -> int | None:
    """Return the count of the first top-level `for` over a range with a loop inside, else None."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.For) and any(isinstance(n, ast.For) for n in _inside(node)):
            return _length(node.iter, namespace)
    return None


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
