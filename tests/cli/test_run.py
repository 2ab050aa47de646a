"""`nbaas run`: a notebook's job once more from its bundle, with an exit code that tells."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest

from nbaas.bundle import build_bundle
from nbaas.capture import capture_cell
from nbaas.jobs.store import find_job, list_jobs
from nbaas.jobs.submit import new_spec, submit
from nbaas.placement import HostResources, place

pytestmark = pytest.mark.ranks

LOOP = """
import pathlib
for epoch in range(2):
    for x, y in loader:
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
    print(epoch, f"{loss.item():.1f}", flush=True)
if pathlib.Path("mark").exists():
    pathlib.Path("left.txt").write_text(str(epoch))
"""


def contents_of(cell):
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(5)
    rows = torch.randn(40, 3000)  # large enough to be a blob
    model = torch.nn.Linear(3000, 1)
    names = {
        "loader": DataLoader(TensorDataset(rows, rows.sum(1, keepdim=True)), batch_size=8),
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=1e-5),
    }
    return capture_cell(cell, names, execution_count=1)


@pytest.fixture
def bundle(settings, tmp_path):
    """Return a function that makes the bundle of a cell, as the kernel does."""

    def make(cell, name="bundle"):
        build_bundle(tmp_path / name, contents_of(cell), settings.blobs)
        return str(tmp_path / name)

    return make


def test_a_job_runs_again_on_other_ranks_and_prints_the_same(cli, settings, tmp_path, monkeypatch):
    (tmp_path / "work" / "mark").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    contents = contents_of(LOOP)
    slots = place(HostResources("here", 2), ranks=1)
    spec = new_spec(settings, slots, name="first", engine="serial")
    job = submit(settings, spec, lambda path: build_bundle(path, contents, settings.blobs))
    assert job.wait(90).state.value == "SUCCEEDED"
    printed = job.log(0).read()
    (tmp_path / "work" / "left.txt").unlink()

    done = cli("run", "first", "--ranks", "2", "--engine", "ddp", "--name", "again", timeout=120)
    assert (done.returncode, done.stdout) == (0, printed), done.stderr
    assert "again: succeeded on 2 ranks on the CPU (ddp), 2 epochs" in done.stderr
    # Relative paths are those of the notebook.
    assert (tmp_path / "work" / "left.txt").read_text() == "1"
    assert find_job(settings, "again").paths.result.exists()

    # The folder alone, in another home: its blobs come along.
    moved = tmp_path / "elsewhere" / "jobs" / "copy"
    moved.mkdir(parents=True)
    shutil.copytree(job.paths.bundle, moved / "bundle")
    home = str(tmp_path / "other")
    done = cli("run", str(moved), "--ranks", "1", NBAAS_HOME=home, timeout=120)
    assert (done.returncode, done.stdout) == (0, printed), done.stderr


def test_the_exit_code_tells_how_it_ended(cli, bundle):
    done = cli("run", bundle("print('before')\nraise ValueError('eleven')"))
    assert (done.returncode, done.stdout) == (1, "before\n")
    assert "rank 0 raised ValueError" in done.stderr
    assert "Cell In[1], line 2" in done.stderr
    assert "\x1b" not in done.stderr
    assert done.stderr.count("raise ValueError('eleven')") == 1
    done = cli("run", bundle("import os\nos.kill(os.getpid(), 11)", "crash"))
    assert done.returncode == 128 + signal.SIGSEGV
    assert "SIGSEGV" in done.stderr


def test_ctrl_c_finishes_the_step_and_says_so(settings, bundle, eventually):
    endless = textwrap.dedent("""
        import time
        while True:
            for x, y in loader:
                optimizer.zero_grad()
                ((model(x) - y) ** 2).mean().backward()
                optimizer.step()
                print("step", flush=True)
                time.sleep(0.02)
    """)
    running = subprocess.Popen(
        [sys.executable, "-m", "nbaas.cli", "run", bundle(endless), "--name", "endless"],
        env=os.environ | {"NBAAS_HOME": str(settings.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stdout.readline() == "step\n"
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=60)
        assert running.returncode == 75, told
        assert "endless: stopped" in told
        assert "Traceback" not in told
        assert find_job(settings, "endless").status().state.value == "STOPPED"
    finally:
        running.kill()


def test_what_is_no_bundle_is_one_line(cli, settings, bundle, tmp_path):
    for where, words in (
        ("nothing-such", "neither a job nor a folder"),
        (str(tmp_path), "holds no bundle"),
    ):
        done = cli("run", where)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1
        assert words in done.stderr
    made = bundle(LOOP)
    for blob in settings.blobs.iterdir():
        blob.unlink()
    done = cli("run", made)
    assert done.returncode == 1
    assert "is gone" in done.stderr
    assert list_jobs(settings) == []
