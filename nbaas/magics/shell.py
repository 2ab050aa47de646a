"""The live kernel as nbaas reads it: the notebook's names, its cells, and what its front end can.

Rule: the only reader of the live kernel.  It changes two things: `bind` sets the one name the user
asked for, and linecache learns the text below a `%%train` line, so that tracebacks and getsource of
what the cell defines are right in the notebook too.
"""

from __future__ import annotations

import ast
import linecache
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from nbaas.errors import CaptureError
from nbaas.magics.failures import as_text


@dataclass(frozen=True, slots=True)
class CellCode:
    """A cell: its In number, its Python source, the file name its code objects carry."""

    number: int
    source: str
    file_name: str


class Shell:
    """Reads one InteractiveShell."""

    def __init__(self, ip: Any) -> None:
        self.ip = ip

    @property
    def namespace(self) -> dict[str, Any]:
        return self.ip.user_ns

    @property
    def execution_count(self) -> int:
        return int(self.ip.execution_count)

    @property
    def has_kernel(self) -> bool:
        """Whether a front end listens over Jupyter's protocol, as opposed to a terminal."""
        return getattr(self.ip, "kernel", None) is not None

    @property
    def origin(self) -> str:
        """The notebook's path where the front end tells it, else the kernel's process."""
        for name in ("JPY_SESSION_NAME", "VSCODE_NOTEBOOK"):
            if path := os.environ.get(name):
                return Path(path).name
        vscode = self.namespace.get("__vsc_ipynb_file__")
        return Path(vscode).name if isinstance(vscode, str) else f"kernel {os.getpid()}"

    def history(self) -> list[CellCode]:
        """Return the cells whose code may be alive, oldest first, the running one included."""
        numbers: dict[str, int] = dict(self.ip.compile._filename_map)  # noqa: SLF001 - no other way
        cells = [
            CellCode(number, self._body(_cached_source(name)), name)
            for name, number in numbers.items()
        ]
        return sorted(cells, key=lambda cell: cell.number)

    def executed(self) -> list[CellCode]:
        """Return every run of a cell before the one that runs, oldest first, each with its code."""
        history = self.ip.history_manager
        inputs = list(history.input_hist_parsed) if history is not None else []
        runs = enumerate(inputs[1:-1], 1)
        return [
            CellCode(number, self._body(source), f"In[{number}]")
            for number, source in runs
            if source.strip()
        ]

    def cell_code(self, body: str) -> CellCode:
        """Return the body of the running cell magic as Python, on the lines it has in the cell.

        Raises: CaptureError: nothing in it, or one called SyntaxError, which shows the user's own.
        """
        if not _has_code(body):
            raise CaptureError(
                "the cell under %%train is empty", hint="put the training loop below the magic line"
            )
        source = "\n" * self._lines_above(body) + self.transformed(body)
        number, name = self.running_cell()
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST
        # Before the check, which may show a line of it: the file so far holds the magic's call.
        lines = source.splitlines(keepends=True)
        linecache.cache[name] = (len(source), None, lines, name)
        try:
            compile(source, name, "exec", flags, dont_inherit=True)
        except SyntaxError as wrong:
            stack = self.ip.SyntaxTB.structured_traceback(type(wrong), wrong, [])
            raise as_text("SyntaxError", wrong.msg, stack) from None
        return CellCode(number, source, name)

    def running_cell(self) -> tuple[int, str]:
        """Return In number and file name of the cell whose code is on the stack."""
        numbers: dict[str, int] = self.ip.compile._filename_map  # noqa: SLF001 - no other way
        # Not from execution_count, which IPython 9 raises before the cell runs and 8 afterwards.
        frame: FrameType | None = sys._getframe()  # noqa: SLF001 - as inspect does it
        while frame is not None and frame.f_code.co_filename not in numbers:
            frame = frame.f_back
        if frame is None:
            return self.execution_count, f"<ipython-input-{self.execution_count}>"
        name = frame.f_code.co_filename
        return numbers[name], name

    def transformed(self, source: str) -> str:
        """Return Python for a cell with `!`, `%` and `?` lines."""
        return str(self.ip.transform_cell(source))

    def bind(self, name: str, value: Any) -> None:
        """Set `name` in the notebook: only names the user gave with --out."""
        self.ip.user_ns[name] = value

    def _lines_above(self, body: str) -> int:
        raw = str(self.ip.history_manager.input_hist_raw[-1]) if self.ip.history_manager else ""
        above, found, _ = raw.partition(body.rstrip("\n"))
        return above.count("\n") if found else 1

    def _body(self, source: str) -> str:
        """Return the Python under a `%%train` line: its code, too, may be alive in the notebook."""
        magic = _cell_magic(source)
        if magic is None or magic[0] not in ("train", "time", "capture"):
            return source
        return "\n" + self.transformed(magic[1])


def _cached_source(file_name: str) -> str:
    return "".join(linecache.getlines(file_name))


def _has_code(source: str) -> bool:
    lines = (line.strip() for line in source.splitlines())
    return any(line and not line.startswith("#") for line in lines)


def _cell_magic(source: str) -> tuple[str, str] | None:
    """Return (name, body) of a cell that is one cell magic, None of any other."""
    if not source.lstrip().startswith("get_ipython().run_cell_magic("):
        return None
    try:
        statement = ast.parse(source).body[0]
    except SyntaxError:
        return None
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call):
        return None
    values = [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
    if len(values) != 3 or not all(isinstance(value, str) for value in values):  # noqa: PLR2004 - name, line, body
        return None
    return str(values[0]), str(values[2])
