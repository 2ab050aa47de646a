"""Rich outputs of rank 0 reach whoever reads the job; other ranks show nothing."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nbaas.bundle import JournalSink
from nbaas.jobs.displays import DisplayReader
from nbaas.journal import JournalWriter
from nbaas.records import JobPaths

RANK = """
import sys; from pathlib import Path
from nbaas.journal import JournalWriter
from nbaas.records import JobPaths
from nbaas.worker import rich
rich.install(JobPaths(Path(sys.argv[1])), int(sys.argv[2]))
import matplotlib.pyplot as plt
plt.plot([1, 3, 2]); plt.show()
from IPython.display import HTML, clear_output, display as show
clear_output(wait=True)
show(HTML("<b>bold</b>"))
"""


def shown(root: Path, rank: int) -> list:
    environ = os.environ | {"MPLBACKEND": "module://nbaas.bundle.figures"}
    command = [sys.executable, "-c", RANK, str(root), str(rank)]
    done = subprocess.run(command, env=environ, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return list(DisplayReader(JobPaths(root)).read())


@pytest.mark.ranks
def test_figures_and_ipythons_display_reach_the_reader(tmp_path: Path):
    figure, clear, html = shown(tmp_path, 0)
    assert base64.b64decode(figure["data"]["image/png"]).startswith(b"\x89PNG")
    assert clear["kind"] == "clear_output"
    assert html["data"]["text/html"] == "<b>bold</b>"


@pytest.mark.ranks
def test_ranks_above_0_show_nothing(tmp_path: Path):
    assert shown(tmp_path, 1) == []


def test_a_large_output_lies_beside_the_journal_and_reads_the_same(tmp_path: Path):
    sink = JournalSink(JobPaths(tmp_path).displays)
    sink.show("display_data", {"text/html": "x" * 100_000, "text/plain": "short"}, {})
    assert max(map(len, JobPaths(tmp_path).displays.read_bytes().splitlines())) < 1000
    read = next(DisplayReader(JobPaths(tmp_path)).read())
    assert read["data"] == {"text/html": "x" * 100_000, "text/plain": "short"}


def test_a_journal_that_names_a_file_elsewhere_gets_no_such_file(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("canary")
    root = tmp_path / "job"
    for name in ("../secret", str(secret)):
        JournalWriter(JobPaths(root).displays).append({"data": {}, "files": {"text/plain": name}})
    assert list(DisplayReader(JobPaths(root)).read()) == []
