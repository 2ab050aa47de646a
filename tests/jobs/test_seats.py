"""Who gets the cores and GPUs of a host; first the decision, then real jobs that wait."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace

import pytest

from nbaas.jobs.job import Job
from nbaas.jobs.seats import Capacity, Claim, seat
from nbaas.launchers.devices import usable_cores
from nbaas.records import JobSpec, Slot, State

HOST = Capacity(cores=4, gpus=4)


def spec(ranks: int, *, gpu: bool = False, job_id: str = "5") -> JobSpec:
    slots = tuple(Slot(r, r, ranks, "here", gpu=r if gpu else None) for r in range(ranks))
    return JobSpec(job_id, "asks", "ddp", slots, 0.0)


def holds(ranks: int, gpus: tuple[int, ...] = (), *, job_id: str = "1") -> Claim:
    return Claim(job_id, "holds", seated=True, ranks=ranks, gpus=gpus)


def waits(ranks: int, gpus: tuple[int, ...] = (), *, job_id: str = "1") -> Claim:
    return replace(holds(ranks, gpus, job_id=job_id), seated=False)


def test_a_job_fits_beside_others_as_long_as_there_are_cores():
    assert seat(spec(2), [holds(2)], HOST).slots == spec(2).slots
    reason = "2 of 4 cores are free, after 'holds'; %stop holds makes room"
    assert seat(spec(3), [holds(2)], HOST).reason == reason


def test_a_job_gets_the_gpus_that_are_free_whatever_it_was_placed_on():
    seating = seat(spec(2, gpu=True), [holds(1, (1,))], HOST)
    assert [slot.gpu for slot in seating.slots] == [0, 2]
    assert "1 of 4 GPUs are free" in seat(spec(2, gpu=True), [holds(3, (0, 1, 3))], HOST).reason


def test_ranks_on_the_cpu_and_on_gpus_do_not_wait_for_each_other():
    assert seat(spec(4), [holds(4, (0, 1, 2, 3))], HOST).slots
    assert seat(spec(4, gpu=True), [holds(4)], HOST).slots


def test_those_who_came_first_are_served_first_even_when_a_later_one_would_fit():
    assert seat(spec(1), [holds(3), waits(2)], HOST).reason
    assert seat(spec(1), [holds(3), waits(2, job_id="9")], HOST).slots


def test_a_job_that_never_fits_runs_when_it_is_alone():
    assert seat(spec(9), [], HOST).slots == spec(9).slots
    assert seat(spec(9), [waits(9, job_id="9")], HOST).slots
    assert seat(spec(9), [holds(1)], HOST).reason


FOREVER = "number = 0\nwhile True:\n    number += 1\n    step(number)\n"


@pytest.mark.ranks
def test_a_job_without_room_waits_visibly_and_starts_when_there_is_some(
    start: Callable[..., Job], eventually
):
    ranks = usable_cores()
    first = start(FOREVER, ranks)
    eventually(lambda: first.status().state is State.RUNNING)
    second = start("step(1)\n", ranks)
    status = eventually(lambda: (s := second.status()).flags and s)
    assert status.flags == {"QUEUED"}
    assert f"0 of {ranks} cores are free, after {first.name!r}" in status.reason
    third = start("step(1)\n", 1)
    eventually(lambda: "QUEUED" in third.status().flags)
    os.kill(first.history().supervisor[0], signal.SIGKILL)
    assert second.wait(20).state is State.SUCCEEDED
    assert third.wait(20).state is State.SUCCEEDED


@pytest.mark.ranks
def test_a_job_that_waits_can_be_stopped_and_killed(start: Callable[..., Job], eventually):
    first = start(FOREVER, usable_cores())
    eventually(lambda: first.status().state is State.RUNNING)
    waiting = [start("step(1)\n", usable_cores()) for _ in range(2)]
    for job in waiting:
        eventually(lambda job=job: "QUEUED" in job.status().flags)
    waiting[0].stop()
    waiting[1].kill()
    assert waiting[0].wait(10).state is State.STOPPED
    assert waiting[1].wait(10).state is State.CANCELLED
    assert not waiting[1].paths.log(0).exists()
