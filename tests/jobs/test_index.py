"""The index: every row once, whoever reads it in; damage costs a rebuild; peaks stay visible."""

from __future__ import annotations

import math
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbaas.config import Settings
from nbaas.jobs.events import EventLog
from nbaas.jobs.index import CurvePoint, Index, merged
from nbaas.jobs.job import Job, open_job
from nbaas.jobs.schema import is_on_network, open_index
from nbaas.jobs.submit import new_spec
from nbaas.journal import JournalWriter, frame
from nbaas.placement import HostResources, place
from nbaas.records import JobPaths, State, to_json
from nbaas.worker.metrics import encoded


def finished_job(settings: Settings, *, name: str = "", ranks: int = 1) -> Job:
    """Return a job that is over, made of files alone."""
    import json

    spec = new_spec(settings, place(HostResources("here", 2), ranks=ranks), name=name)
    paths = JobPaths(settings.jobs / spec.id)
    paths.root.mkdir(parents=True)
    paths.spec.write_text(json.dumps(to_json(spec)))
    events = EventLog(paths)
    for state in (State.CREATED, State.STARTING, State.RUNNING, State.SUCCEEDED):
        events.enter(state)
    events.close()
    return open_job(paths.root)


def write_rows(job: Job, values: list[float], *, rank: int = 0, start: int = 1) -> None:
    lines = [
        frame(encoded((time.time(), step, 1, {"loss": value}, "train")))
        for step, value in enumerate(values, start)
    ]
    writer = JournalWriter(job.paths.metrics(rank))
    assert writer.append_lines(b"".join(lines))
    writer.close()


def test_p21_rows_are_taken_once_however_often_they_are_read_in(settings: Settings):
    job = finished_job(settings, ranks=2)
    index = Index(settings)
    assert index.take(job) == 0
    write_rows(job, [3.0, 2.0])
    write_rows(job, [9.0], rank=1)
    assert index.take(job) == 3
    write_rows(job, [1.0], start=3)
    with job.paths.metrics(0).open("ab") as file:
        file.write(b"torn")  # a writer that is at it
    assert index.take(job) == 1
    assert Index(settings).take(job) == 0
    assert [point.mean for point in index.curve(job.id, "loss")] == [3.0, 2.0, 1.0]
    assert [point.mean for point in index.curve(job.id, "loss", rank=1)] == [9.0]
    assert index.curve(job.id, "accuracy") == []
    assert [(j.id, j.state) for j in index.jobs()] == [(job.id, "SUCCEEDED")]


def test_p28_no_peak_is_lost_however_few_points_are_drawn(settings: Settings):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    draw = random.Random(seed)
    job = finished_job(settings)
    values = [draw.random() for _ in range(5000)]
    spike = draw.randrange(5000)
    values[spike] = 50.0
    write_rows(job, values)
    index = Index(settings)
    index.take(job)
    for points in (10, 70, 400, 10_000):
        curve = index.curve(job.id, "loss", points=points)
        assert len(curve) <= max(points, 5000)
        assert max(point.high for point in curve) == 50.0
        assert min(point.low for point in curve) == min(values)
        assert math.isclose(
            sum(point.mean * point.count for point in curve) / 5000, sum(values) / 5000
        )


def test_p29_values_that_are_no_numbers_leave_a_gap_and_no_error(settings: Settings):
    job = finished_job(settings)
    write_rows(job, [1.0, math.nan, math.inf, -math.inf, 2.0] * 40)
    index = Index(settings)
    index.take(job)
    assert index.curve(job.id, "loss", points=1000)[1].mean is None
    coarse = index.curve(job.id, "loss", points=3)
    assert {(point.low, point.high) for point in coarse} == {(1.0, 2.0)}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80), st.integers(1, 20))
def test_joined_pieces_hold_all_values(values: list[float], points: int):
    pieces = [CurvePoint(step, v, v, v, 1) for step, v in enumerate(values)]
    joined = merged(pieces, points)
    assert len(joined) <= points
    assert sum(piece.count for piece in joined) == len(values)
    assert min(piece.low for piece in joined) == min(values)
    assert max(piece.high for piece in joined) == max(values)


WRITER = """
import sys
from pathlib import Path
from nbaas.config import Settings
from nbaas.jobs.index import Index
from nbaas.jobs.job import open_job
home = Path(sys.argv[1])
settings = Settings(home=home, cache=home)
index = Index(settings)
for _ in range(20):
    for root in sorted(settings.jobs.iterdir()):
        index.take(open_job(root))
"""


@pytest.mark.ranks
def test_p24_many_processes_fill_one_index_without_a_locked_database(settings: Settings):
    jobs = [finished_job(settings) for _ in range(4)]
    for job in jobs:
        write_rows(job, [1.0] * 3000)
    command = [sys.executable, "-c", WRITER, str(settings.home)]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(6)]
    for writer in writers:
        assert writer.communicate(timeout=120)[1] == b""
        assert writer.returncode == 0
    index = Index(settings)
    assert [index.rows(job.id) for job in jobs] == [3000] * 4


def test_p25_a_damaged_index_is_set_aside_and_filled_again(settings: Settings):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    draw = random.Random(seed)
    job = finished_job(settings)
    write_rows(job, [float(n) for n in range(2000)])
    for round_ in range(10):
        index = Index(settings)
        index.take(job)
        index.close()
        data = bytearray(index.path.read_bytes())
        if round_ % 2:
            del data[draw.randrange(100, len(data)) :]
        else:
            page = draw.randrange(len(data) // 4096) * 4096
            data[page : page + 4096] = draw.randbytes(4096)
        index.path.write_bytes(data)
        for suffix in ("-wal", "-shm"):
            index.path.with_name(index.path.name + suffix).unlink(missing_ok=True)
        again = Index(settings)
        again.take(job)
        assert again.rows(job.id) == 2000
        assert len(again.curve(job.id, "loss", points=5000)) == 2000
        again.close()
    assert list(settings.home.glob("index.sqlite.damaged-*"))


def test_p26_an_index_of_another_version_is_not_touched_but_set_aside(settings: Settings):
    path = settings.home / "index.sqlite"
    open_index(path).close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    assert Index(settings).jobs() == []
    [aside] = settings.home.glob("index.sqlite.damaged-*")
    assert sqlite3.connect(aside).execute("PRAGMA user_version").fetchone() == (99,)


def test_a_network_file_system_is_known_by_its_mount(tmp_path: Path):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"/dev/vda / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\ntmpfs {tmp_path}/local tmpfs rw 0 0\n"
    )
    assert is_on_network(tmp_path / "home" / "index.sqlite", mounts)
    assert not is_on_network(tmp_path / "local" / "index.sqlite", mounts)
    assert not is_on_network(Path("/elsewhere"), mounts)
