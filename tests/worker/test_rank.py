"""Real ranks: torch, a bundle, an engine; what they leave behind and how they end."""

from __future__ import annotations

import functools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from nbaas.bundle import read_result
from nbaas.config import Settings
from nbaas.jobs.follow import follow
from nbaas.jobs.job import Job
from nbaas.launchers import zygote
from nbaas.launchers.forked import connection
from nbaas.launchers.processes import tagged
from nbaas.records import State

pytestmark = pytest.mark.ranks

Run = Callable[..., Job]
TRAIN = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
rows = torch.randn(65, 8)
loader = DataLoader(TensorDataset(rows, rows.sum(1, keepdim=True)), batch_size=16, shuffle=True)
model = nn.Linear(8, 1)
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
losses = []
for epoch in range(EPOCHS):
    for x, y in loader:
        optimizer.zero_grad(); loss = ((model(x) - y) ** 2).mean(); loss.backward(); optimizer.step()
    losses.append(loss.item())
    print("epoch", epoch, flush=True)
"""
ENDLESS = TRAIN.replace("EPOCHS", "10**9")


def numbers(job: Job) -> list[float]:
    """Return the losses that came back."""
    bound = {name.name for name in read_result(job.paths.result).summary.bound}
    assert "losses" in bound
    rows = [row for row in job.metrics(0).read() if row.kind == "train"]
    return [row.values["loss"] for row in rows]


def stepping(job: Job, eventually: Callable[..., object]) -> Job:
    eventually(lambda: min(r.progress.step for r in job.status().ranks) > 5, timeout=120)
    return job


@pytest.fixture(params=["cold", "warm"])
def either(request: pytest.FixtureRequest, run: Run) -> Run:
    """Run with ranks of their own interpreters, or with ranks that a zygote forks."""
    if request.param == "warm":
        request.getfixturevalue("warm")
    return functools.partial(run, cold=request.param == "cold")


def test_two_ranks_train_log_measure_and_bring_back(either: Run):
    job = either(TRAIN.replace("EPOCHS", "3"))
    updates = list(follow(job))
    assert updates[-1].status.state is State.SUCCEEDED, updates[-1].status.failure
    assert "".join(update.log for update in updates).count("epoch") == 3
    rows = [row for u in updates for row in u.metrics.get(1, []) if row.kind == "train"]
    assert [row.step for row in rows] == list(range(1, 16))
    assert {"loss", "lr"} <= set(rows[0].values)
    assert len(numbers(job)) == 15
    assert json.loads(job.paths.facts.read_text())["world_size"] == 2
    assert job.log(1).read().count("epoch") == 3
    assert list(tagged(job.id)) == []


def test_a_job_computes_the_same_cold_and_warm(run: Run, warm: Path, settings: Settings):
    first = run(TRAIN.replace("EPOCHS", "2"))
    assert first.wait(120).state is State.SUCCEEDED
    second = run(TRAIN.replace("EPOCHS", "2"), cold=True)
    assert second.wait(120).state is State.SUCCEEDED
    assert numbers(first) == numbers(second)


def test_a_rank_that_raises_leaves_the_users_error_and_the_values_so_far(run: Run, warm: Path):
    job = run("seen = [1]\nimport torch\nseen.append(2)\ntorch.ones(2) @ torch.ones(3)\n")
    status = job.wait(120)
    assert status.state is State.FAILED
    assert status.failure.kind == "RuntimeError"
    assert "Cell In[3], line 4" in status.failure.traceback
    assert status.failure.rank == 0
    assert "seen" in {name.name for name in read_result(job.paths.result).summary.bound}


def test_a_stopped_job_ends_all_ranks_after_the_same_step_and_brings_its_values(
    run: Run, eventually, warm: Path
):
    job = stepping(run(ENDLESS), eventually)
    job.stop()
    status = job.wait(60)
    assert status.state is State.STOPPED, status
    assert [rank.exit_code for rank in status.ranks] == [75, 75]
    assert len({rank.progress.step for rank in status.ranks}) == 1
    assert "model" in {name.name for name in read_result(job.paths.result).summary.bound}


@pytest.mark.parametrize("victim", [0, 1])
def test_p4_a_killed_rank_is_the_one_that_is_named(run: Run, eventually, warm: Path, victim: int):
    job = stepping(run(ENDLESS), eventually)
    os.kill(job.status().ranks[victim].pid, signal.SIGKILL)
    status = job.wait(60)
    assert status.state is State.FAILED
    assert status.reason.startswith(f"rank {victim} on here: killed (SIGKILL)")
    assert list(tagged(job.id)) == []


def test_p3_ranks_die_with_their_supervisor(either: Run, eventually):
    job = stepping(either(ENDLESS), eventually)
    os.kill(job.history().supervisor[0], signal.SIGKILL)
    # Nobody asks for the status: the ranks end by themselves.
    eventually(lambda: not list(tagged(job.id)))
    # The kernel closes a dead process's files one by one: the lock may go after the lifelines.
    eventually(lambda: job.status().state is State.LOST)


def test_a_zygote_that_is_killed_does_not_touch_its_ranks(run: Run, eventually, warm: Path):
    job = stepping(run(ENDLESS), eventually)
    pids = [rank.pid for rank in job.status().ranks]
    assert zygote.status(warm)["children"] == pids
    os.kill(zygote.status(warm)["pid"], signal.SIGKILL)
    job.stop()
    status = job.wait(60)
    assert status.state is State.STOPPED, status
    assert [rank.exit_code for rank in status.ranks] == [75, 75]


def test_a_zygote_stays_clean_and_is_alone(settings: Settings, run: Run, warm: Path):
    assert run(TRAIN.replace("EPOCHS", "1")).wait(120).state is State.SUCCEEDED
    before = zygote.status(warm)
    assert (before["threads"], before["cuda"], before["children"]) == (1, False, [])
    assert zygote.ensure(settings) == warm
    assert zygote.status(warm)["pid"] == before["pid"]
    assert warm.stat().st_mode & 0o777 == 0o600


def test_the_seed_that_was_asked_for_gives_the_same_numbers_again(run: Run, warm: Path):
    cell = "import torch, random\ndrawn = (torch.rand(1).item(), random.random())\nprint(drawn)\n"
    jobs = [run(cell, seed=seed) for seed in (7, 7, 8)]
    said = []
    for job in jobs:
        assert job.wait(120).state is State.SUCCEEDED
        said.append(job.log(0).read())
    assert said[0] == said[1] != said[2]


def test_a_rank_has_its_share_of_the_cores_and_the_users_umask(either: Run, tmp_path):
    cell = (
        "import torch, os, pathlib, numpy\n"
        "print(torch.get_num_threads(), os.environ['OMP_NUM_THREADS'], os.getcwd())\n"
        f"pathlib.Path({str(tmp_path / 'made')!r}).touch()\n"
    )
    umask = os.umask(0o022)
    try:
        job = either(cell, ranks=1)
    finally:
        os.umask(umask)
    assert job.wait(120).state is State.SUCCEEDED
    assert job.log(0).read().split() == ["2", "2", str(Path.cwd())]
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o644


def test_a_zygote_survives_clients_that_do_not_wait_for_their_answer(warm: Path):
    pid = zygote.status(warm)["pid"]
    os.kill(pid, signal.SIGSTOP)
    client = connection()
    client.connect(str(warm))
    client.send(b'{"verb": "status"}')
    client.close()
    os.kill(pid, signal.SIGCONT)
    assert zygote.status(warm)["pid"] == pid


def test_a_zygote_that_is_stopped_is_not_waited_for(run: Run, warm: Path):
    pid = zygote.status(warm)["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        job = run("print('ran')\n", ranks=1)
        assert job.wait(120).state is State.SUCCEEDED
    finally:
        os.kill(pid, signal.SIGCONT)
    assert job.log(0).read() == "ran\n"
    assert zygote.status(warm)["pid"] == pid
