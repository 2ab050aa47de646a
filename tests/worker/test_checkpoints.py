"""Cells that go on from the middle: what they print and compute is what an undisturbed run does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from nbaas.errors import JobError
from nbaas.jobs.job import Job
from nbaas.jobs.resume import resume
from nbaas.journal import JournalReader
from nbaas.placement import HostResources, place
from nbaas.records import State
from nbaas.worker.checkpoints import newest_whole

pytestmark = [pytest.mark.ranks, pytest.mark.usefixtures("warm")]  # forked: a start is 0.1 s

Run = Callable[..., Job]
HEAD = """
import os, signal, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
rows = torch.randn(65, 8)
loader = DataLoader(TensorDataset(rows, rows.sum(1, keepdim=True)), batch_size=16, shuffle=True)
model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.2), nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 7, 0.9)
losses, seen = [], 0
torch.set_default_dtype(torch.float64)  # a setting that no name holds
def dies(step):
    if step == DEATH and os.environ["NBAAS_RANK"] == "1" and not os.path.exists(MARK):
        os.close(os.open(MARK, os.O_CREAT))
        os.kill(os.getpid(), signal.SIGKILL)
"""
EPOCHS = """
for epoch in range(4):
    total = 0.0
    for step, (x, y) in enumerate(loader):
        optimizer.zero_grad(); loss = ((model(x) - y) ** 2).mean(); loss.backward(); optimizer.step()
        scheduler.step()
        total += loss.item() * len(x); seen += len(x); losses.append(loss.item())
        dies(seen)
    print("epoch", epoch, f"{total / 65:.6f}", seen, torch.ones(1).dtype, flush=True)
print("end", f"{sum(losses):.6f}", scheduler.get_last_lr()[0])
"""


def printed(run: Run, tmp_path, loop: str, *, death: int = -1, **fields) -> tuple[str, Job]:
    """Return what rank 0 printed; rank 1 kills itself once, after `death` rows."""
    values = {"DEATH": death, "MARK": str(tmp_path / f"died-{death}")}
    job = run(HEAD + loop, values, seed=3, **fields)
    status = job.wait(120)
    assert status.state is State.SUCCEEDED, (status, job.log(0).read(), job.log(1).read())
    return job.log(0).read(), job


def curve(job: Job, rank: int = 0) -> list[tuple[int, int, float]]:
    rows = [row for row in job.metrics(rank).read() if row.kind == "train"]
    return [(row.step, row.epoch, round(row.values["loss"], 6)) for row in rows]


def test_p15_a_gang_that_is_killed_goes_on_and_prints_what_it_would_have_printed(
    run: Run, tmp_path
):
    plain, first = printed(run, tmp_path, EPOCHS, checkpoint_every="3")
    again, job = printed(run, tmp_path, EPOCHS, death=65 + 48, checkpoint_every="3", max_restarts=1)
    states = [e["state"] for e in JournalReader(job.paths.events).read() if "state" in e]
    assert states[2:6] == ["RUNNING", "RESTARTING", "STARTING", "RUNNING"]
    before, found, after = again.partition("[nbaas: resumed from the checkpoint of step 6]\n")
    assert found, again
    assert [*before.splitlines()[:1], *after.splitlines()] == plain.splitlines()
    assert [curve(job), curve(job, 1)] == [curve(first), curve(first, 1)]
    assert [point.step for point in job.checkpoints()] == [18, 15]


ONE_BY_ONE = """
turn = 0
while turn < 40:
    turn += 1
    for x, y in loader:
        optimizer.zero_grad(); loss = ((model(x) - y) ** 2).mean(); loss.backward(); optimizer.step()
        losses.append(loss.item())
    print(turn, f"{losses[-1]:.5f}", flush=True)
    if turn == PAUSE: time.sleep(0.2)
print("sum", f"{sum(losses):.4f}", len(losses))
"""


def stopped(run: Run, eventually, end: Callable[[Job], None], **fields) -> Job:
    """Return a job that `end` has ended after some turns."""
    head = HEAD.replace("import os", "import time, os")
    slow = ONE_BY_ONE.replace("if turn == PAUSE: time.sleep(0.2)", "time.sleep(0.05)")
    job = run(head + slow, {"DEATH": -1, "MARK": ""}, seed=3, **fields)
    at_work(job, eventually)
    end(job)
    return job


def at_work(job: Job, eventually, before: int = 1) -> None:
    eventually(lambda: len(job.log(0).read().splitlines()) > before + 2, timeout=120)


def undisturbed(run: Run) -> tuple[str, Job]:
    loop = ONE_BY_ONE.replace("if turn == PAUSE: time.sleep(0.2)", "pass")
    job = run(HEAD + loop, {"DEATH": -1, "MARK": ""}, seed=3, ranks=1)
    assert job.wait(120).state is State.SUCCEEDED, job.log(0).read()
    return job.log(0).read(), job


def sigterm_to_all(job: Job) -> None:
    history = job.history()
    for pid in (history.supervisor[0], *history.pids.values()):
        os.kill(pid, signal.SIGTERM)


def test_p15_p16_a_job_that_was_ended_goes_on_under_its_name_on_other_ranks(
    run: Run, settings, eventually
):
    plain, first = undisturbed(run)
    ends = {
        State.STOPPED: lambda job: job.stop(),
        State.INTERRUPTED: sigterm_to_all,
        State.LOST: lambda job: os.kill(job.history().supervisor[0], signal.SIGKILL),
    }
    job = None
    for number, (state, end) in enumerate(ends.items()):
        if job is None:
            job = stopped(run, eventually, end, ranks=2, checkpoint_every="10", name="going")
        else:
            job = resume(settings, job, place(HostResources("here", 2), ranks=1 + number % 2))
            at_work(job, eventually, len(job.log(0).read().splitlines()))
            end(job)
        status = job.wait(60)
        assert status.state is state, (status, job.log(0).read())
        assert job.checkpoints(), (state, job.log(0).read())
    job = resume(settings, job)
    assert job.name == "going"
    assert job.wait(120).state is State.SUCCEEDED, job.log(0).read()
    assert job.log(0).read() == plain
    assert [c[:2] for c in curve(job)] == [c[:2] for c in curve(first)]
    assert [c[2] for c in curve(job)] == pytest.approx([c[2] for c in curve(first)], abs=1e-4)
    with pytest.raises(JobError, match="has come to its end"):
        resume(settings, job)


def test_ranks_agree_on_a_checkpoint_by_the_clock_and_by_request(run: Run, eventually):
    job = stopped(run, eventually, lambda job: None, ranks=2, checkpoint_every="0.5s")
    eventually(lambda: len(job.checkpoints()) == 2)
    job.kill()
    job.wait(20)
    job = stopped(run, eventually, lambda job: job.checkpoint(), ranks=2)
    eventually(job.checkpoints)
    assert job.checkpoints()[0].position.in_loop
    job.kill()


def test_a_cell_that_fails_twice_in_the_same_place_is_not_started_a_third_time(run: Run):
    job = run("for n in range(3):\n    assert n < 2, 'two'\n", ranks=1, max_restarts=5)
    status = job.wait(120)
    assert (status.state, status.restarts) == (State.FAILED, 1)
    assert status.failure is not None
    assert status.failure.message == "two"


def test_a_checkpoint_is_taken_when_the_cell_or_somebody_asks_for_it(run: Run, eventually):
    cell = """
import nbaas, time
source = (n for n in range(10**6))
count = 0
for n in range(10**6):
    count += 1
    if n == 2: nbaas.checkpoint()
    time.sleep(0.02)
    weight = {"n": n}
"""
    job = run(cell, ranks=1)
    first = eventually(job.checkpoints, timeout=120)[0]
    # A generator cannot be kept; the line that made it can run again.
    assert (first.step, first.position.loops[0][1], len(first.remade)) == (0, 3, 1)
    job.kill()


def test_what_can_neither_be_kept_nor_made_again_is_named_once(run: Run):
    cell = """
import nbaas
def made():
    yield 1
for n in range(5):
    if n == 0: source = made()
    nbaas.checkpoint()
print(next(source))
"""
    job = run(cell, ranks=1)
    assert job.wait(120).state is State.SUCCEEDED
    text = job.log(0).read()
    assert text.count("nbaas: no checkpoint: source") == 1, text
    assert "from its start only" in text
    assert job.checkpoints() == []


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(run: Run):
    job = run("import nbaas\nfor n in range(4):\n    nbaas.checkpoint()\n", ranks=1)
    assert job.wait(120).state is State.SUCCEEDED
    newest, older = job.checkpoints()
    values = newest.root / "state" / "values.pkl"
    values.write_bytes(values.read_bytes()[:-1] + b"?")
    assert newest_whole(job.paths.checkpoints) == older
