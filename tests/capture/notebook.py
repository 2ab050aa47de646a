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
from nbaas.journal import JournalReader

ROOT = Path(__file__).parent.parent.parent


class CellError(Exception):
    """The cell raised in the rank; `failure` is its record."""

    def __init__(self, failure: dict[str, Any]) -> None:
        super().__init__(failure["traceback"])
        self.failure = failure


class Ranks:
    """A process that has torch imported and forks a rank for each job."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("rank.py"))],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, job: Path, cwd: Path = ROOT) -> int:
        (job / "cwd").write_text(str(cwd))
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{job}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=10)


@dataclass
class Notebook:
    directory: Path
    ranks: Ranks
    namespace: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    history: list[Cell] = field(default_factory=list)
    output: str = ""
    shown: list[dict[str, Any]] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    changed: list[str] = field(default_factory=list)

    @property
    def blobs(self) -> Path:
        return self.directory / "blobs"

    def cell(self, source: str) -> Any:
        """Run a cell here, as the kernel does."""
        cell = self._add(source)
        exec(compile(cell.source, cell.file_name, "exec", dont_inherit=True), self.namespace)
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

    def train(self, source: str, *, cwd: Path = ROOT, **options: Any) -> Notebook:
        """Run a cell in a process of its own and merge what it left; then raises CellError."""
        contents = self.capture(source, **options)
        job = self.bundle(contents).parent
        code = self.ranks.run(job, cwd)
        self.output = (job / "log").read_text()
        assert code in (0, 1), self.output
        self.shown = JournalReader(job / "displays.jsonl").read()
        self.merge(job, contents)
        if code == 1:
            raise CellError(json.loads((job / "failure.json").read_text()))
        return self

    def merge(self, job: Path, contents: Any) -> None:
        result = read_result(job / "result", self.blobs)
        self.notes = result.summary.notes
        captured = contents or open_bundle(job / "bundle", self.blobs)
        self.changed = merge_result(result, self.namespace, captured)

    def __getitem__(self, name: str) -> Any:
        return self.namespace[name]
