"""`%%train --export`: a script that runs by itself and prints what the cell prints."""

from __future__ import annotations

import subprocess
import sys

import pytest
from cells import LOOP

pytestmark = pytest.mark.ranks


def test_the_script_of_a_cell_gives_the_numbers_of_its_ranks(problem):
    problem.run("print('only shown')\n!true")
    told = problem.run("%%train --ranks 2 --engine ddp --export train.py" + LOOP)
    assert not told.error, told.error
    assert "and this cell; python train.py runs it in one process" in told.stdout
    assert problem.value("losses") == []
    trained = problem.run("%%train --ranks 2 --engine ddp" + LOOP)
    work = problem.home / "work"
    text = (work / "train.py").read_text()
    assert "only shown" not in text
    assert "\n\n\nclass Net(nn.Module):" in text
    done = subprocess.run(
        [sys.executable, "train.py"],
        cwd=work,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr + text
    assert [float(word) for word in done.stdout.split()] == pytest.approx(
        [float(word) for word in trained.stdout.split()], rel=1e-5
    )
    # Written again over its own file, after the cell has run; the earlier run is not part of it.
    told = problem.run("%%train --export train.py" + LOOP)
    assert not told.error, told.error
    assert (work / "train.py").read_text().count("loss.backward()") == 1


def test_a_file_of_the_users_is_not_overwritten(problem):
    mine = problem.home / "work" / "mine.py"
    mine.write_text("precious = 1\n")
    cell = problem.run("%%train --export mine.py" + LOOP)
    assert cell.error_name == "UsageError"
    assert len(cell.lines) == 1
    assert mine.read_text() == "precious = 1\n"
    assert "not a place" in problem.run("%%train --export no/such/x.py\nx = 1").error
