"""Cells as code in a rank: the module `__main__` they share, their lines, and how one is run."""

from __future__ import annotations

import ast
import asyncio
import builtins
import inspect
import linecache
import os
import sys
import types
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from nbaas.bundle import displays
from nbaas.bundle.contents import Cell
from nbaas.bundle.frontend import get_ipython, stand_in
from nbaas.bundle.restoring import NOTEBOOK

if TYPE_CHECKING:
    from nbaas.bundle.store import Bundle

BACKEND = "module://nbaas.bundle.figures"


def install_main(bundle: Bundle) -> types.ModuleType:
    """Return this process's new `__main__`, in which notebook and cell live from now on."""
    from nbaas.bundle import manifest as manifests

    register_texts((*bundle.texts, bundle.cell))
    for entry in bundle.manifest.sys_path:
        if entry not in sys.path:
            sys.path.append(entry)
    os.environ["MPLBACKEND"] = BACKEND
    module = types.ModuleType(NOTEBOOK)
    # A DataLoader worker that is spawned runs this file to find the notebook's classes.
    module.__file__ = str(bundle.directory / manifests.DEFINITIONS)
    module.__dict__["__builtins__"] = builtins
    module.__dict__["get_ipython"] = get_ipython
    stand_in()
    sys.modules[NOTEBOOK] = module
    return module


def register_texts(texts: Iterable[Cell]) -> None:
    """Let tracebacks, `inspect` and debuggers of this process find the lines of these cells."""
    for text in texts:
        lines = [line + "\n" for line in text.source.split("\n")]
        # No time stamp: `linecache.checkcache` keeps the entry, as it does IPython's own.
        linecache.cache[text.file_name] = (len(text.source), None, lines, text.file_name)


def run_cell(
    cell: Cell, namespace: dict[str, Any], prepare: Callable[[ast.Module], ast.Module] | None = None
) -> None:
    """Run the cell in `namespace`; its last expression and its open figures are shown."""
    tree = ast.parse(cell.source, cell.file_name)
    tree = tree if prepare is None else prepare(tree)
    last = tree.body[-1] if tree.body else None
    shown = isinstance(last, ast.Expr)
    _run(ast.Module(tree.body[: len(tree.body) - shown], []), cell, namespace)
    if isinstance(last, ast.Expr):
        value = _run(ast.Expression(last.value), cell, namespace)
        if value is not None and not cell.source.rstrip().endswith(";"):
            displays.show(value, "execute_result")
    displays.show_figures()


def _run(tree: ast.Module | ast.Expression, cell: Cell, namespace: dict[str, Any]) -> Any:
    mode = "eval" if isinstance(tree, ast.Expression) else "exec"
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(tree, cell.file_name, mode, flags, dont_inherit=True)
    if code.co_flags & inspect.CO_COROUTINE:
        return asyncio.run(types.FunctionType(code, namespace)())
    return eval(code, namespace)  # noqa: S307 - the user's own cell


def restore_main(definitions: str, namespace: dict[str, Any]) -> None:
    """Put a bundle's values into `namespace`, that of a worker process which runs its definitions."""
    from pathlib import Path

    from nbaas.bundle.store import open_bundle

    bundle = open_bundle(Path(definitions).parent)
    register_texts((*bundle.texts, bundle.cell))
    bundle.restore(namespace)
