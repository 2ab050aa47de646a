"""`%%train --export train.py`: the cell and what it rests on as a plain script; nothing runs.

Rule: a file that this did not write is never overwritten.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from nbaas.bundle.contents import Cell
from nbaas.capture import export_script
from nbaas.errors import UsageError
from nbaas.magics.shell import CellCode, Shell

MARK = "exported by nbaas"  # in the first line of what export_script writes


def export_cell(shell: Shell, code: CellCode, file: str, seed: int | None) -> str:
    """Write the script and return what to tell; raises UsageError for a file that cannot be written."""
    path = Path(file).expanduser()
    _check(path)
    cell = Cell(code.number, code.source, code.file_name)
    script = export_script(cell, shell.executed(), shell.namespace, seed=seed)
    draft = path.with_name(f".{path.name}.tmp")
    try:
        draft.write_text(script.text)
        draft.replace(path)
    except OSError as failed:
        raise UsageError(
            f"--export {file}: {failed.strerror}", hint="name another file"
        ) from failed
    for notice in script.notices:
        print(f"nbaas: {notice}", file=sys.stderr)  # noqa: T201 - into the cell
    listed = ", ".join(f"In[{number}]" for number in script.cells)
    made_of = f"{listed} and this cell" if listed else "this cell"
    return f"{file}: {made_of}; python {shlex.quote(file)} runs it in one process"


def _check(path: Path) -> None:
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"--export {path}: not a place for a file", hint="--export train.py")
    try:
        with path.open() as file:
            ours = MARK in file.readline()
    except (FileNotFoundError, UnicodeDecodeError):
        ours = not path.exists()
    if not ours:
        raise UsageError(
            f"--export {path}: the file is there, and was not written by --export",
            hint="name another file, or remove it",
        )
