"""A long job that is opened late: what its panel shows is what it would show had it watched all."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from nbaas.config import Settings
from nbaas.jobs.events import EventLog
from nbaas.jobs.job import Job, open_job
from nbaas.jobs.series import rows_of
from nbaas.jobs.submit import new_spec
from nbaas.placement import HostResources, place
from nbaas.records import JobPaths, State, to_json
from nbaas.widgets.replay import LONG, recall, replayed
from nbaas.widgets.run import RunView
from nbaas.worker.kept import KeptCurves
from nbaas.worker.metrics import MetricsWriter

ROWS = 20_000
SPIKE = 7_777


def write(job: Job, rank: int, steps: range) -> None:
    draw = random.Random(steps.start)
    writer = MetricsWriter(job.paths.metrics(rank))
    for step in steps:
        loss = 1e6 if step == SPIKE else math.nan if step == 5_000 else draw.random()
        writer.add(step, 1 + step // 5000, {"loss": loss, "rows": 64})
        if step % 100 == 0:
            writer.add(step, 1, {"rss": 1e9 + step, "step_time": 0.01, "wait": 0.002}, "sys")
            writer.add(step // 100, 1, {"val_acc": step / ROWS}, "log")
    writer.close()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job of two ranks that is over, its journals written as ranks write them."""
    settings = Settings(home=tmp_path / "home", cache=tmp_path, engine="ddp")
    spec = new_spec(settings, place(HostResources("here", 2), ranks=2), name="long")
    paths = JobPaths(settings.jobs / spec.id)
    paths.root.mkdir(parents=True)
    paths.spec.write_text(json.dumps(to_json(spec)))
    events = EventLog(paths)
    for state in (State.CREATED, State.STARTING, State.RUNNING, State.SUCCEEDED):
        events.enter(state)
    events.close()
    found = open_job(paths.root)
    for rank in range(2):
        write(found, rank, range(1, ROWS + 1))
        assert paths.metrics(rank).stat().st_size > LONG
    return found


def watched_from_the_beginning(job: Job) -> RunView:
    run = RunView(job.spec, "2 ranks on the CPU")
    run.take_status(job.status())
    run.take({rank: rows_of(job, rank) for rank in range(2)})
    return run


@pytest.mark.parametrize("on_file", [True, False])
def test_a_panel_that_opens_late_shows_what_one_does_that_watched(job: Job, on_file: bool):
    if not on_file:
        job.paths.curves(0).unlink()
    late, full = replayed(job), watched_from_the_beginning(job)
    seen, whole = late.view(2e9), full.view(2e9)
    for name in ("state", "step", "progress", "where", "engine", "scaling"):
        assert seen[name] == whole[name], name
    assert [stat for stat in seen["stats"] if stat["name"] != "samples/s"] == [
        stat for stat in whole["stats"] if stat["name"] != "samples/s"
    ]
    for one, other in zip(seen["ranks"], whole["ranks"], strict=True):
        assert one == {**other, "wait": pytest.approx(other["wait"])}
    assert list(late.curves.by_name) == list(full.curves.by_name) == ["loss", "val_acc"]
    for name, curve in late.curves.by_name.items():
        every = full.curves.by_name[name]
        points = set(zip(every.steps, map(str, every.values), strict=True))
        assert set(zip(curve.steps, map(str, curve.values), strict=True)) <= points
        assert (curve.best, curve.last) == (every.best, every.last)
    steps, values = late.curves.by_name["loss"].points()
    assert values[list(steps).index(SPIKE)] == 1e6
    assert math.isnan(values[list(steps).index(5_000)])


def test_rows_written_after_the_recall_come_once_and_in_order(job: Job):
    run = RunView(job.spec, "2 ranks on the CPU")
    start = recall(run, job)
    assert start == {rank: job.paths.metrics(rank).stat().st_size for rank in range(2)}
    write(job, 0, range(ROWS + 1, ROWS + 51))
    rows = list(rows_of(job, 0, start[0]))
    assert [row.step for row in rows] == list(range(ROWS + 1, ROWS + 51))
    run.take({0: rows})
    loss = run.curves.by_name["loss"]
    assert list(loss.steps)[-50:] == [row.step for row in rows]
    assert (run.step, loss.rewound) == (ROWS + 50, 0)


def test_a_short_job_is_read_in_full(job: Job):
    for rank in range(2):
        job.paths.metrics(rank).write_bytes(job.paths.metrics(rank).read_bytes()[: LONG // 2])
    assert recall(RunView(job.spec, "here"), job) == {}
    assert KeptCurves(job.paths.metrics(0)).offset == 0
    late, full = replayed(job), watched_from_the_beginning(job)
    assert late.curves.by_name["loss"].values == full.curves.by_name["loss"].values
