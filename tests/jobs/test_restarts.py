"""A gang that fails is started again, as often as was asked; what should end it for good does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from nbaas.errors import JobError
from nbaas.jobs.job import Job
from nbaas.jobs.resume import resume
from nbaas.journal import JournalReader
from nbaas.launchers.processes import tagged
from nbaas.records import State

pytestmark = pytest.mark.ranks

Start = Callable[..., Job]
# The rank that counts its own starts in a file fails at each of the first FAILS.
FAILS_TWICE = """
path = os.path.join(os.path.dirname(sys.argv[-2]), f"starts-{rank}")
with open(path, "a") as file: file.write("x")
starts = os.path.getsize(path)
for number in range(1, 21):
    step(number)
    if rank == 1 and number == 3 + starts and starts <= 2: os.kill(os.getpid(), signal.SIGKILL)
print("done", starts)
"""
FOREVER = "while True: step(1)\n"


def states(job: Job) -> list[str]:
    return [e["state"] for e in JournalReader(job.paths.events).read() if "state" in e]


def test_a_gang_is_started_again_until_it_comes_to_its_end(start: Start):
    job = start(FAILS_TWICE, max_restarts=3, queue=False)
    status = job.wait(30)
    assert (status.state, status.restarts) == (State.SUCCEEDED, 2)
    again = ["RESTARTING", "STARTING", "RUNNING"]
    assert states(job) == ["CREATED", "STARTING", "RUNNING", *again, *again, "SUCCEEDED"]
    assert job.log(0).read().endswith("done 3\n")
    assert [row.step for row in job.metrics(1).read() if row.kind == "train"] == list(range(1, 21))
    assert list(tagged(job.id)) == []


def test_a_gang_that_fails_more_often_than_was_asked_for_has_failed(start: Start):
    status = start(FAILS_TWICE, max_restarts=1, queue=False).wait(30)
    assert (status.state, status.restarts) == (State.FAILED, 1)
    assert "SIGKILL" in status.reason


def test_the_same_error_in_the_same_place_is_not_tried_a_third_time(start: Start):
    job = start("step(1)\nraise ValueError('no such column')\n", max_restarts=9, queue=False)
    status = job.wait(30)
    assert (status.state, status.restarts) == (State.FAILED, 1)
    reason = next(e["reason"] for e in JournalReader(job.paths.events).read()
                  if e.get("state") == "RESTARTING")  # fmt: skip
    assert reason == (
        "rank 0 on here: ValueError: no such column; restart 1 of 9 from the start of the cell"
    )


@pytest.mark.parametrize("verb", ["stop", "kill"])
def test_a_job_that_waits_to_start_again_can_be_ended(start: Start, eventually, verb: str):
    # From the second restart on there is a pause.
    cell = "step(1)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    job = start(cell, 1, max_restarts=9, queue=False)
    eventually(lambda: job.status().restarts >= 3)
    getattr(job, verb)()
    assert job.wait(10).state in (State.STOPPED, State.CANCELLED)
    assert list(tagged(job.id)) == []


def test_a_host_that_goes_down_is_no_reason_to_start_again(start: Start, eventually):
    job = start(FOREVER, max_restarts=9, queue=False)
    eventually(lambda: job.status().state is State.RUNNING)
    os.kill(job.history().supervisor[0], signal.SIGTERM)
    status = job.wait(10)
    assert (status.state, status.restarts) == (State.INTERRUPTED, 0)


def test_a_job_that_was_lost_begins_anew_where_it_has_no_checkpoint(
    start: Start, settings, eventually
):
    job = start(FOREVER, 1, name="again", queue=False)
    with pytest.raises(JobError, match="'again' is "):
        resume(settings, job)
    eventually(lambda: job.status().state is State.RUNNING)
    os.kill(job.history().supervisor[0], signal.SIGKILL)
    eventually(lambda: job.status().state is State.LOST)
    going = resume(settings, job)
    try:
        assert (going.name, going.spec.resumed_from) == ("again", job.id)
        eventually(lambda: going.status().state is State.RUNNING)
    finally:
        going.kill()
        going.wait(10)


def test_a_checkpoint_is_asked_of_a_job_at_work_only(start: Start, eventually):
    job = start("while True: step(1)\n", queue=False)
    eventually(lambda: all(rank.progress.step for rank in job.status().ranks))
    job.checkpoint()
    job.kill()
    job.wait(10)
    with pytest.raises(JobError, match="is CANCELLED: nothing to save"):
        job.checkpoint()
