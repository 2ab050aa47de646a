"""What stands in for the notebook's front end in a rank: shell, display, input, progress bars.

IPython itself is not imported; where the user's code imports it, its display functions become ours.
"""

from __future__ import annotations

import builtins
import importlib.abc
import importlib.machinery
import importlib.util
import re
import string
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nbaas.bundle import commands, displays
from nbaas.bundle.restoring import NOTEBOOK


def stand_in() -> None:
    """Put the stand-ins in place for the rest of this process's life."""
    builtins.display = displays.display  # type: ignore[attr-defined]
    builtins.input = _no_input
    for name, change in _CHANGES.items():
        if name in sys.modules:
            change(sys.modules[name])
    if not any(isinstance(finder, _ChangedModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ChangedModules())


def _no_input(prompt: object = "") -> str:
    raise RuntimeError(f"input({prompt!r}): nobody can answer a rank; ask in a cell of its own")


class Shell:
    """Stands in for the kernel's shell: what a `%` or `!` line of a cell calls."""

    config: dict[str, Any] = {}  # noqa: RUF012 - libraries look here for the kind of front end
    ranks: commands.Ranks | None = None  # of the job, while its cell runs

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
        command = filled_in(command, sys._getframe(1))  # noqa: SLF001 - the names where the line stands
        vars(sys.modules[NOTEBOOK])["_exit_code"] = commands.exit_code(command, self.ranks)

    def getoutput(self, command: str, **_: Any) -> list[str]:
        command = filled_in(command, sys._getframe(1))  # noqa: SLF001 - likewise
        return commands.output(command, self.ranks)


class _Names(string.Formatter):
    """Fills `{expression}` and `$name` in, as IPython does."""

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names

    def parse(self, text: Any) -> Iterator[Any]:
        for literal, *field in super().parse(text):
            yield (_DOLLAR.sub(self._value, literal), *field)

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:  # noqa: ARG002 - the base's
        return eval(field_name, self._names), field_name  # noqa: S307 - the user's own line

    def _value(self, found: re.Match[str]) -> str:
        if not found[1]:
            return "$"
        root = found[1].partition(".")[0]
        # A variable of the shell's stays for the shell.
        return str(eval(found[1], self._names)) if root in self._names else found[0]  # noqa: S307 - likewise


_DOLLAR = re.compile(r"\$(?:\$|([A-Za-z_][\w]*(?:\.[A-Za-z_]\w*)*))")


def filled_in(command: str, frame: types.FrameType) -> str:
    """Return a `!` line with the values of its names; unchanged, as in IPython, where one has none."""
    try:
        return _Names({**frame.f_globals, **frame.f_locals}).vformat(command, (), {})
    except Exception:  # noqa: BLE001 - braces of the shell's own, or whatever the expression raises
        return command


_SHELL = Shell()


def get_ipython() -> Shell:
    """Return the stand-in for the kernel's shell."""
    return _SHELL


# ---- modules that are changed when the user's code imports them --------------------------------


def _to_our_display(module: types.ModuleType) -> None:
    for name in (
        "display",
        "update_display",
        "clear_output",
        "publish_display_data",
        "DisplayHandle",
    ):
        setattr(module, name, getattr(displays, name))


def _to_text_bars(module: types.ModuleType) -> None:
    """Draw tqdm's bars as text: a rank has no front end for the widgets."""
    text = importlib.import_module("tqdm.std")
    for name in ("tqdm", "tqdm_notebook"):
        setattr(module, name, text.tqdm)
    for name in ("trange", "tnrange"):
        setattr(module, name, text.trange)


_CHANGES: dict[str, Callable[[types.ModuleType], None]] = {
    "IPython.core.display_functions": _to_our_display,
    "tqdm.notebook": _to_text_bars,
}


class _ChangedModules(importlib.abc.MetaPathFinder):
    """Finds the modules of `_CHANGES` as usual, and changes them once they have run."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _CHANGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run, change = spec.loader.exec_module, _CHANGES[name]

            def run_and_change(module: types.ModuleType) -> None:
                run(module)
                change(module)

            spec.loader.exec_module = run_and_change  # type: ignore[method-assign]
        return spec
