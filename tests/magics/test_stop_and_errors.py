"""A cell that raises or is stopped: the user's own error, the last whole step, no orphans."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from cells import ENDLESS, LOOP
from kernel_notebook import Cell, Notebook

pytestmark = pytest.mark.ranks


def rank_pids(notebook: Notebook, name: str) -> list[int]:
    """Return the processes of a job's ranks."""
    return notebook.value(
        "__import__('nbaas.jobs.store', fromlist=['x']).find_job("
        "__import__('nbaas.config', fromlist=['x']).load_settings(), "
        f"{name!r}).history().pids"
    ).values()


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def assert_no_orphans(notebook: Notebook, name: str) -> None:
    deadline = time.monotonic() + 10
    pids = list(rank_pids(notebook, name))
    assert pids
    while not all(gone(pid) for pid in pids):
        assert time.monotonic() < deadline, f"ranks of {name} live on: {pids}"
        time.sleep(0.05)


def test_an_error_is_the_users_own_with_the_cells_lines_and_the_rank(problem):
    raising = "    if epoch == 1: raise KeyError('no such label: 11')"
    code = LOOP.replace("    best =", f"{raising}\n    best =")
    cell = problem.run("%%train --ranks 2 --engine ddp --name raises" + code)
    assert cell.error_name == "KeyError", cell.error
    assert "rank 0 of 2 raised KeyError; the same on rank 1" in cell.lines[0]
    line = code.split("\n").index(raising) + 1  # line 1 of the cell is the magic's
    assert f"Cell In[{cell.number}], line {line}\n" in cell.error
    assert f"{line} {raising}" in cell.error
    assert "nbaas/" not in cell.error
    # The stack is shown once, as the error, and not in the stream of prints as well.
    assert "raise KeyError" not in cell.stdout + cell.stderr
    assert cell.stdout.startswith("0 ")
    # What was complete when it raised is back.
    assert problem.value("(len(losses), epoch, alias is model)") == (2, 1, True)
    assert problem.run("print('Run All stops before this cell')").stdout


def test_a_rank_that_fails_alone_is_named_and_the_others_are_folded(problem):
    code = "import os\nif os.environ['NBAAS_RANK'] == '1': [][3]\n" + LOOP
    cell = problem.run("%%train --ranks 2 --engine ddp --name alone\n" + code)
    assert cell.error_name == "IndexError", cell.error
    assert "rank 1 of 2 raised IndexError" in cell.lines[0]
    assert cell.lines[-1] == "rank 0 ended because of it"
    assert_no_orphans(problem, "alone")


def test_a_rank_that_is_killed_is_named_with_its_signal(problem):
    code = (
        "import os, signal\nprint('last words', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    cell = problem.run("%%train --ranks 1 --name killed\n" + code)
    assert "rank 0 killed (SIGKILL)" in cell.lines[0]
    assert cell.lines[-1] == "last words"
    assert "last words" in cell.stdout


def test_a_job_that_failed_brings_back_the_class_of_the_notebook(problem):
    problem.run("class LabelError(ValueError):\n    pass")
    cell = problem.run("%%train --ranks 1\nraise LabelError('eleven')")
    assert cell.error_name == "LabelError"
    assert "eleven" in cell.error


def interrupt_after(notebook: Notebook, text: str, times: int = 1):
    """Return what presses stop once `text` is in the cell, and again two seconds later."""
    presses: list[float] = []

    def press(cell: Cell) -> None:
        due = not presses or time.monotonic() - presses[-1] > 2
        if text in cell.stdout and len(presses) < times and due:
            presses.append(time.monotonic())
            notebook.interrupt()

    return press


def test_an_interrupt_finishes_the_step_and_returns_model_and_history(problem):
    problem.run("before = next(model.parameters()).clone()")
    press = interrupt_after(problem, "epoch 1")
    cell = problem.run("%%train --ranks 2 --engine ddp --name stopped" + ENDLESS, during=press)
    assert cell.error_name == "Interrupted", cell.error
    assert re.fullmatch(
        r"stopped: stopped after step \d+; back in the notebook: .*model.*", cell.error
    )
    assert problem.value(
        "(bool((next(model.parameters()) != before).any()), len(losses) >= 2, epoch >= 1, alias is model)"
    ) == (True, True, True, True)
    assert "STOPPED" in problem.run("%jobs").texts()
    assert_no_orphans(problem, "stopped")
    # The kernel's other work can still be interrupted: no handler of ours stays.
    loop = "print('spinning', flush=True)\nwhile True: pass"
    assert (
        problem.run(loop, during=interrupt_after(problem, "spinning")).error_name
        == "KeyboardInterrupt"
    )


EVALUATING = """
passes = []
print("evaluating", flush=True)
while True:
    outputs = [model(x) for x, y in test_loader]
    passes.append(accuracy(model))
    time.sleep(0.02)
"""
SLEEPING = """
turns = []
for turn in range(100000):
    turns.append(turn)
    time.sleep(0.02 * (1 + int(os.environ["NBAAS_RANK"])))
    print("turn", turn, flush=True)
"""
ONE_STATEMENT = """
def wait():
    try:
        while True:
            time.sleep(0.3)
    finally:
        cleaned.append(1)

cleaned = []
got = 41 + 1
print("waiting", flush=True)
wait()
got = 0
"""


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_stop_ends_a_loop_that_only_evaluates(problem, engine, ranks):
    press = interrupt_after(problem, "evaluating")
    head = f"%%train --ranks {ranks} --engine {engine} --name evaluates{ranks}"
    cell = problem.run(head + EVALUATING, during=press)
    assert cell.error_name == "Interrupted", cell.error
    assert "stopped after step 0; back in the notebook: " in cell.error
    # Sharded outputs are whole again: the ranks stopped at one place.
    assert problem.value("(len(passes) > 1, len(set(passes)), sum(map(len, outputs)))") == (
        *(True, 1, 49),
    )
    assert_no_orphans(problem, f"evaluates{ranks}")


def test_a_stop_ends_ranks_that_never_meet(problem):
    cell = problem.run(
        "%%train --ranks 2 --engine ddp --name drifts" + SLEEPING,
        during=interrupt_after(problem, "turn 3"),
    )
    assert cell.error_name == "Interrupted", cell.error
    assert problem.value("turns == list(range(turn + 1)) and turn > 2")
    assert "STOPPED" in problem.run("%jobs").texts()


def test_a_stop_leaves_a_statement_that_lasts_and_runs_its_finally(problem):
    cell = problem.run(
        "%%train --ranks 2 --engine ddp --name lasts" + ONE_STATEMENT,
        during=interrupt_after(problem, "waiting"),
    )
    assert cell.error_name == "Interrupted", cell.error
    assert problem.value("(got, cleaned)") == (42, [1])


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_stop_ends_a_shell_line(problem, engine, ranks):
    cell = problem.run(
        f"%%train --ranks {ranks} --engine {engine} --name shell{ranks}\n"
        "before = 1\n!echo begun; sleep 600\nbefore = 2",
        during=interrupt_after(problem, "begun"),
    )
    assert cell.error_name == "Interrupted", cell.error
    assert problem.value("before") == 1


def test_a_second_interrupt_kills(problem):
    # C code that holds the interpreter: no exception can be raised in it.
    code = "print('asleep', flush=True)\nsum(range(10**15))"
    press = interrupt_after(problem, "asleep", times=2)
    cell = problem.run("%%train --ranks 1 --name dead\n" + code, during=press)
    assert cell.error_name == "JobError", cell.error
    assert "CANCELLED" in cell.error
    assert_no_orphans(problem, "dead")


def test_a_kernel_that_dies_leaves_the_job_alive(tmp_path):
    with Notebook(tmp_path / "home") as first:
        first.run("%load_ext nbaas")
        first.run("import time")
        code = "for i in range(400): print(i, flush=True); time.sleep(0.05)\nanswer = 42"
        first.run("%%train --ranks 1 --name lives --background\n" + code)
        first.manager.shutdown_kernel(now=True)
    with Notebook(tmp_path / "home") as second:
        second.run("%load_ext nbaas")
        cell = second.run("job = %attach lives\njob.state")
        assert not cell.error, cell.error
        assert "RUNNING" in cell.texts() or "STARTING" in cell.texts()
        second.run("%stop lives --kill")
        assert second.value("job.wait(20)") == "CANCELLED"


def test_a_flood_is_cut_in_the_cell_and_whole_in_the_log(problem):
    code = "for i in range(60_000):\n    print('line', i, 'x' * 50)\nprint('the end')"
    cell = problem.run("%%train --ranks 1 --name flood\n" + code)
    assert not cell.error, cell.error
    assert len(cell.stdout) < 2_100_000
    assert "left out" in cell.stdout
    assert cell.stdout.rstrip().endswith("the end")
    log = problem.run("import nbaas\nlog = nbaas.attach('flood').logs()")
    assert not log.error, log.error
    assert problem.value("(log.count('line '), log.rstrip().endswith('the end'))") == (60_000, True)
