"""What pruning removes, and what it never does."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbaas.config import Settings
from nbaas.jobs.job import Job
from nbaas.jobs.retention import Finished, expired, prune
from nbaas.jobs.store import list_jobs
from nbaas.records import State


@given(st.lists(st.tuples(st.integers(0, 99), st.floats(0, 1e6)), unique_by=lambda p: p[0]),
       st.integers(0, 20), st.floats(0, 1e6))  # fmt: skip
def test_the_newest_and_the_young_are_kept(pairs, keep: int, age: float):
    jobs = [Finished(f"{number:03d}", ended) for number, ended in pairs]
    gone = expired(jobs, keep=keep, older_than=age, now=1e6)
    newest = sorted((job.id for job in jobs), reverse=True)[:keep]
    assert not set(gone) & set(newest)
    assert all(1e6 - job.ended > age for job in jobs if job.id in gone)


@pytest.mark.ranks
def test_old_jobs_and_leftovers_go_and_a_running_one_stays(
    start: Callable[..., Job], settings: Settings, eventually
):
    done = [start("step(1)\n", 1) for _ in range(2)]
    for job in done:
        assert job.wait(20).state is State.SUCCEEDED
    running = start("while True: step(1)\n", 1)
    eventually(lambda: running.status().state is State.RUNNING)
    old, young = settings.jobs / ".a.draft", settings.jobs / ".b.draft"
    for draft in (old, young):
        draft.mkdir()
    os.utime(old, (0, 0))
    (settings.jobs / ".c.gone").mkdir()
    planned = prune(settings, keep=1, older_than=0, dry_run=True)
    assert planned.jobs == (done[0].id,)
    assert done[0].paths.root.exists()
    pruned = prune(settings, keep=1, older_than=0)
    assert pruned.jobs == planned.jobs
    assert len(pruned.leftovers) == 2
    assert pruned.freed > 0
    assert [job.id for job in list_jobs(settings)] == [running.id, done[1].id]
    assert young.exists()
    assert not old.exists()
    assert prune(settings, keep=0, older_than=0).jobs == (done[1].id,)
    assert running.status().state is State.RUNNING
