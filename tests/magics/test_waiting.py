"""What does not move says why: a job that waits for room, ranks that hang, ranks that crash."""

from __future__ import annotations

import time

import pytest
from cells import SETUP
from kernel_notebook import Notebook

pytestmark = pytest.mark.ranks


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    with Notebook(tmp_path_factory.mktemp("home"), NBAAS_STALL_TIMEOUT="2") as started:
        started.run("%load_ext nbaas\n" + SETUP)
        yield started


def test_ranks_that_hang_are_shown_where_they_are(notebook):
    code = (
        "print('before', flush=True)\n"
        "if os.environ['NBAAS_RANK'] == '1': time.sleep(5)\n"
        "for x, y in train_loader:\n"
        "    nn.functional.cross_entropy(model(x), y).backward(); break"
    )
    cell = notebook.run("%%train --ranks 2 --engine ddp\n" + code)
    assert not cell.error, cell.error
    told = cell.stdout.splitlines()
    assert told[0] == "before"
    assert told[1].startswith("nbaas: no step for 2 s")
    at = told.index("rank 1:") + 1
    assert told[at] == f"  Cell In[{cell.number}], line 3"
    waiting = told[told.index("rank 0:") + 1 : at]
    assert any(f"Cell In[{cell.number}], line " in line for line in waiting), cell.stdout
    assert "threading.py" not in cell.stdout


def test_a_crash_shows_the_cells_lines_and_none_of_ours(notebook):
    cell = notebook.run("%%train --ranks 1\nimport ctypes\nctypes.string_at(0)")
    assert "SIGSEGV" in cell.lines[0]
    assert f"  Cell In[{cell.number}], line 3" in cell.lines
    assert "nbaas/" not in cell.error + cell.stdout


def test_a_job_that_waits_for_room_says_for_whom(notebook):
    notebook.run("%%train --ranks 1 --background --name first --out first\ntime.sleep(100)")
    cell = notebook.run("%%train --ranks 200 --engine ddp --background --name second --out job\n1")
    assert not cell.error, cell.error
    deadline = time.monotonic() + 30
    while "waiting for room" not in cell.texts():
        assert time.monotonic() < deadline, cell.texts()
        notebook.run("time.sleep(0.2)")
    assert "after 'first'; %stop first makes room" in cell.texts()
    notebook.run("%stop second\n%stop first --kill")
    assert notebook.value("job.wait(20)") in ("STOPPED", "CANCELLED")


def test_room_behind_a_job_of_a_dead_kernel_is_made_by_its_name(notebook):
    with Notebook(notebook.home, NBAAS_STALL_TIMEOUT="2") as other:
        other.run("%load_ext nbaas\nimport time")
        other.run("%%train --ranks 1 --background --name abandoned\ntime.sleep(600)")
        other.manager.shutdown_kernel(now=True)
    ranks = notebook.value("len(os.sched_getaffinity(0))")
    cell = notebook.run(
        f"%%train --ranks {ranks} --engine ddp --background --name waits --out job\n1"
    )
    assert not cell.error, cell.error
    deadline = time.monotonic() + 30
    while "%stop abandoned makes room" not in cell.texts():
        assert time.monotonic() < deadline, cell.texts()
        notebook.run("time.sleep(0.2)")
    notebook.run("%stop abandoned")
    while notebook.value("'QUEUED' in job.status.flags"):
        assert time.monotonic() < deadline, "the job waits on, though there is room"
        notebook.run("time.sleep(0.2)")
    job = "__import__('nbaas').attach('abandoned').state"
    assert notebook.value(job) == "STOPPED"
    notebook.run("job.kill()")
