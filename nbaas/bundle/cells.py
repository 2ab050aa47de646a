"""Cells as code in a rank: the module `__main__` they share, their lines, and how one is run."""

from __future__ import annotations

import ast
import asyncio
import builtins
import inspect
import linecache
import os
import subprocess
import sys
import types
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nbaas.bundle import displays
from nbaas.bundle.contents import Cell
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
    builtins.display = displays.display  # type: ignore[attr-defined]
    builtins.input = _no_input
    sys.modules[NOTEBOOK] = module
    return module


def register_texts(texts: Iterable[Cell]) -> None:
    """Let tracebacks, `inspect` and debuggers of this process find the lines of these cells."""
    for text in texts:
        lines = [line + "\n" for line in text.source.split("\n")]
        # No time stamp: `linecache.checkcache` keeps the entry, as it does IPython's own.
        linecache.cache[text.file_name] = (len(text.source), None, lines, text.file_name)


def run_cell(cell: Cell, namespace: dict[str, Any]) -> None:
    """Run the cell in `namespace`; its last expression and its open figures are shown."""
    tree = ast.parse(cell.source, cell.file_name)
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


def _no_input(prompt: object = "") -> str:
    raise RuntimeError(f"input({prompt!r}): nobody can answer a rank; ask in a cell of its own")


class Shell:
    """Stands in for the kernel's shell: what a `%` or `!` line of a cell calls."""

    config: dict[str, Any] = {}  # noqa: RUF012 - libraries look here for the kind of front end

    def run_line_magic(self, name: str, line: str, *_: Any, **__: Any) -> Any:
        if name in ("matplotlib", "config", "autoreload", "load_ext", "reload_ext"):
            return None
        if name in ("time", "prun", "timeit"):
            return self._timed(line)
        raise RuntimeError(f"%{name} does not run in a rank: put it into a cell of its own")

    magic = run_line_magic

    def run_cell_magic(self, name: str, line: str, body: str) -> None:  # noqa: ARG002
        if name not in ("time", "capture"):
            raise RuntimeError(f"%%{name} does not run in a rank: put it into a cell of its own")
        exec(body, vars(sys.modules[NOTEBOOK]))  # noqa: S102 - the user's own cell

    def _timed(self, line: str) -> None:
        exec(line, vars(sys.modules[NOTEBOOK]))  # noqa: S102 - the user's own cell

    def system(self, command: str) -> None:
        subprocess.run(command, shell=True, check=False)  # noqa: S602 - a `!` line of the user's

    def getoutput(self, command: str, **_: Any) -> list[str]:
        done = subprocess.run(command, shell=True, check=False, capture_output=True, text=True)  # noqa: S602
        return done.stdout.splitlines()


_SHELL = Shell()


def get_ipython() -> Shell:
    """Return the stand-in for the kernel's shell."""
    return _SHELL


def restore_main(definitions: str, namespace: dict[str, Any]) -> None:
    """Put a bundle's values into `namespace`, that of a worker process which runs its definitions."""
    from pathlib import Path

    from nbaas.bundle.store import open_bundle

    bundle = open_bundle(Path(definitions).parent)
    register_texts((*bundle.texts, bundle.cell))
    bundle.restore(namespace)
