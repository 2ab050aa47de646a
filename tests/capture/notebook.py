"""A notebook without a kernel: cells run in one namespace, and one can run in a fresh interpreter."""

from __future__ import annotations

import json
import linecache
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbaas.bundle import Cell, build_bundle, open_bundle, read_result
from nbaas.capture import capture_cell, merge_result

ROOT = Path(__file__).parent.parent.parent
RANK = Path(__file__).with_name("rank.py")


class CellFailed(Exception):
    """The cell raised in the rank; `failure` is its record."""

    def __init__(self, failure: dict[str, Any]) -> None:
        super().__init__(failure["traceback"])
        self.failure = failure


@dataclass
class Notebook:
    directory: Path
    namespace: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    history: list[Cell] = field(default_factory=list)
    output: str = ""
    notes: tuple[str, ...] = ()
    changed: list[str] = field(default_factory=list)

    @property
    def blobs(self) -> Path:
        return self.directory / "blobs"

    def cell(self, source: str) -> Any:
        """Run a cell here, as the kernel does."""
        cell = self._add(source)
        exec(compile(cell.source, cell.file_name, "exec"), self.namespace)
        return self

    def _add(self, source: str) -> Cell:
        number = len(self.history) + 1
        text = textwrap.dedent(source).strip("\n") + "\n"
        cell = Cell(number, text, f"/tmp/ipykernel_1/{id(self)}{number}.py")
        lines = [line + "\n" for line in text.split("\n")]
        linecache.cache[cell.file_name] = (len(text), None, lines, cell.file_name)
        self.history.append(cell)
        return cell

    def capture(self, source: str, **options: Any) -> Any:
        cell = self._add("\n" + textwrap.dedent(source).strip("\n"))
        cell = Cell(cell.number, "\n" + cell.source, cell.file_name)  # below its %%train line
        return capture_cell(
            cell.source, self.namespace, execution_count=cell.number, file_name=cell.file_name,
            history=self.history, **options,
        )  # fmt: skip

    def bundle(self, contents: Any) -> Path:
        directory = self.directory / f"job{len(self.history)}" / "bundle"
        build_bundle(directory, contents, self.blobs)
        return directory

    def train(self, source: str, *, cwd: Path | None = None, **options: Any) -> Any:
        """Run a cell in a fresh interpreter and merge what it leaves; raises CellFailed after that."""
        contents = self.capture(source, **options)
        self.run(self.bundle(contents), contents, cwd)
        return self

    def run(self, directory: Path, contents: Any, cwd: Path | None = None) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "tests.capture.rank", str(directory.parent)],
            env=environment, cwd=cwd or ROOT, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode in (0, 1), done.stdout + done.stderr
        self.output = done.stdout
        result = read_result(directory.parent / "result", self.blobs)
        self.notes = result.summary.notes
        captured = contents if contents is not None else open_bundle(directory, self.blobs)
        self.changed = merge_result(result, self.namespace, captured)
        if done.returncode == 1:
            raise CellFailed(json.loads((directory.parent / "failure.json").read_text()))

    def __getitem__(self, name: str) -> Any:
        return self.namespace[name]
