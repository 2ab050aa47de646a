"""A cell that was stopped goes on in the notebook, and leaves what an undisturbed one leaves."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from cells import LOOP, SETUP

if TYPE_CHECKING:
    from kernel_notebook import Cell, Notebook

pytestmark = pytest.mark.ranks

LONG = LOOP.replace("range(3)", "range(8)").replace("best = ", "time.sleep(0.3); best = ")


def test_a_stopped_cell_goes_on_in_the_notebooks_own_objects(problem: Notebook):
    undisturbed = problem.run("%%train --ranks 1 --name whole" + LONG)
    assert not undisturbed.error, undisturbed.error
    expected = problem.value("(losses, epoch)")
    problem.run(SETUP)

    def stop(cell: Cell) -> None:
        if cell.stdout.count("\n") >= 2 and not asked.is_set():
            asked.set()
            problem.interrupt()

    asked = threading.Event()
    first = problem.run("%%train --ranks 1 --name parts" + LONG, during=stop)
    assert "stopped after step" in first.error
    done = problem.value("len(losses)")
    assert 1 < done < 8
    second = problem.run("%resume parts")
    assert not second.error, second.error
    assert "nbaas: parts goes on from the checkpoint of step" in second.stderr
    assert problem.value("(losses, epoch, alias is model, history is losses)") == (
        *expected, True, True,
    )  # fmt: skip
    # The whole log is shown once more, joined without a gap.
    assert second.stdout == undisturbed.stdout
    again = problem.run("%resume parts")
    assert "'parts' has come to its end" in again.error
    assert len(again.lines) <= 2


def test_what_cannot_be_resumed_is_refused_in_one_line(notebook: Notebook):
    assert "no job called 'nothing'" in notebook.run("%resume nothing").error
    wrong = notebook.run("%%train --ranks 1 --checkpoint-every often\nfor n in range(2): pass")
    assert "--checkpoint-every 'often' is neither steps nor a time" in wrong.error
    wrong = notebook.run("%%train --ranks 1 --max-restarts -1\nfor n in range(2): pass")
    assert "--max-restarts -1: less than none" in wrong.error


def test_a_plan_says_where_the_cell_can_be_resumed(problem: Notebook):
    plan = problem.run("%%train --ranks 1 --plan" + LOOP)
    assert "before each turn of the loops in line 2, 4" in plan.texts()
    hidden = problem.run(
        "%%train --ranks 1 --max-restarts 1 --name hidden\n"
        "def f():\n    for n in range(2): pass\nf()\n"
    )
    assert "between the statements of the cell only; the loop in line 3 is inside" in hidden.stderr
