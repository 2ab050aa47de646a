"""A job in the background: a handle at once, a panel that is updated, logs, stop, result."""

from __future__ import annotations

import time

import pytest
from cells import ENDLESS, LOOP
from kernel_notebook import Notebook

pytestmark = pytest.mark.ranks


def wait_for(notebook: Notebook, expression: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not notebook.value(expression):
        assert time.monotonic() < deadline, f"{expression} is not so after {seconds} s"
        time.sleep(0.1)


def test_a_background_job_gives_a_handle_and_leaves_the_notebook_alone(problem):
    cell = problem.run("job = %train --help")  # the line form needs a function
    cell = problem.run("%%train --ranks 2 --engine ddp --name back --background --out job" + LOOP)
    assert not cell.error, cell.error
    assert "<job back: " in cell.texts()
    assert problem.value("losses") == []
    assert problem.value("job.wait()") == "SUCCEEDED"
    assert problem.value("losses") == []
    # Nothing was printed by a thread; logs and rows are there for who asks.
    assert cell.stdout == ""
    assert problem.value("len(job.logs().splitlines())") == 3
    assert problem.value("len(job.metrics())") == 21
    assert problem.value("sorted(set(job.result()) & {'losses', 'best', 'model'})") == [
        "best", "losses", "model",
    ]  # fmt: skip
    assert problem.value("(len(job.result()['losses']), losses)") == (3, [])
    problem.run("names = job.load_into(globals())")
    assert problem.value("(len(losses), alias is model, history is losses, 'best' in names)") == (
        3, True, True, True,
    )  # fmt: skip


def test_the_panel_of_a_background_job_becomes_a_figure(problem):
    drawn_here = "'matplotlib.figure' in __import__('sys').modules"
    before = problem.value(drawn_here)
    cell = problem.run("%%train --ranks 1 --name picture --background" + LOOP)
    problem.run("import nbaas\njob = nbaas.attach('picture')\njob.wait()")
    # Updates of the first cell's display arrive whenever a later cell runs.
    assert any("image/png" in output for output in problem.settled(cell).outputs)
    # Importing what draws it would hold up the cell that runs meanwhile.
    assert problem.value(drawn_here) == before


def test_logs_and_stop_work_by_name(problem):
    cell = problem.run("%%train --ranks 1 --name endless --background --out job" + ENDLESS)
    assert not cell.error, cell.error
    wait_for(problem, "'epoch 1' in job.logs()")
    listed = problem.run("%jobs").texts()
    assert "endless" in listed
    assert "RUNNING" in listed
    assert problem.run("%logs endless --tail 1").stdout.startswith("epoch ")
    again = problem.run("%%train --ranks 1 --name endless\nx = 1")
    assert again.error_name == "JobRunningError"
    assert len(again.lines) == 1
    assert "%attach endless" in again.error
    assert "asked to finish its step" in problem.run("%stop endless").stdout
    assert problem.value("job.wait(30)") == "STOPPED"
    assert "STOPPED already" in problem.run("%stop endless").stdout
    problem.run("job.load_into(globals())")
    assert problem.value("len(losses) >= 1")


def test_the_result_of_a_job_that_raised_is_the_users_error(problem):
    problem.run("%%train --ranks 1 --name bad --background --out job\nraise ValueError('eleven')")
    cell = problem.run("job.result()")
    assert cell.error_name == "ValueError"
    assert "rank 0 raised ValueError" in cell.error


def test_a_new_kernel_brings_the_result_back(tmp_path, problem):
    cell = problem.run("%%train --ranks 1 --name kept --background --out job" + LOOP)
    assert not cell.error, cell.error
    problem.run("job.wait()")
    with Notebook(problem.home) as other:
        other.run("%load_ext nbaas\nimport torch")
        shown = other.run("job = %attach kept\nstate = job.wait()")
        assert not shown.error, shown.error
        loaded = other.run("print(sorted(job.load_into(globals())))")
        assert not loaded.error, loaded.error
        assert other.value("(state, len(losses), type(model).__name__)") == ("SUCCEEDED", 3, "Net")


def test_jobs_are_compared_side_by_side_with_their_curves_overlaid(problem):
    for name, seed in (("one", 1), ("two", 2)):
        cell = problem.run(f"%%train --ranks 1 --seed {seed} --name {name} --out {name}" + LOOP)
        assert not cell.error, cell.error
    for code in ("one.compare(two)", "one.compare('two')", "%jobs --compare one two"):
        cell = problem.run(code)
        assert not cell.error, cell.error
        assert any("image/png" in output for output in cell.outputs)
        lines = [line.split() for line in cell.texts().splitlines()]
        assert ["state", "SUCCEEDED", "SUCCEEDED"] in lines
        assert ["seed", "1", "2"] in lines
        assert ["steps", "21", "21"] in lines
    missing = problem.run("%jobs --compare one nothing-such")
    assert missing.error_name == "JobNotFoundError"
    assert len(missing.lines) == 1
