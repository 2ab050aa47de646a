"""What a released version has written is opened by every later one; what is newer is refused clearly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nbaas.bundle import open_bundle, read_manifest, read_result
from nbaas.config import Settings
from nbaas.errors import BundleError, JobError
from nbaas.jobs.job import Job
from nbaas.jobs.store import list_jobs
from nbaas.records import State
from nbaas.worker.checkpoints import MANIFEST, newest_whole
from nbaas.worker.checkpoints import read_manifest as read_checkpoint

HOMES = sorted(Path(__file__).with_name("fixtures").glob("home-*"))


@pytest.fixture(params=HOMES, ids=lambda home: home.name)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A store as a version has left it."""
    shutil.copytree(request.param, tmp_path / "home")
    return Settings(home=tmp_path / "home", cache=tmp_path)


@pytest.fixture
def job(home: Settings) -> Job:
    (found,) = list_jobs(home)
    return found


def test_there_is_a_fixture():
    assert HOMES


def test_p26_a_job_directory_of_an_earlier_version_opens(job: Job):
    status = job.status()
    assert (job.name, status.state, job.spec.seed) == ("frozen", State.SUCCEEDED, 5)
    assert job.log(0).read() == "epoch 0 1.5\nepoch 1 2.0\nepoch 2 2.5\n"
    rows = [row for row in job.metrics(0).read() if row.kind == "log"]
    assert [row.values["total"] for row in rows] == [1.5, 2.0, 2.5]
    assert open_bundle(job.paths.bundle, job.paths.root).cell.number == 7
    assert {name.name for name in read_result(job.paths.result).summary.bound} >= {"total", "epoch"}


def test_p26_a_checkpoint_of_an_earlier_version_is_whole(job: Job):
    point = newest_whole(job.paths.checkpoints)
    assert point is not None
    assert (point.position.loops[0][1], point.position.in_loop) == (3, True)


def test_p26_what_a_newer_version_has_written_is_refused_by_name(job: Job):
    manifest = job.paths.bundle / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 99}))
    with pytest.raises(BundleError, match="is a bundle of format 99, this nbaas reads"):
        read_manifest(job.paths.bundle)
    point = newest_whole(job.paths.checkpoints)
    assert point is not None
    facts = json.loads((point.root / MANIFEST).read_text())
    (point.root / MANIFEST).write_text(json.dumps({**facts, "format": 99}))
    with pytest.raises(JobError, match="is a checkpoint of format 99, this nbaas reads 1"):
        read_checkpoint(point.root)


def test_p26_a_record_with_fields_of_a_newer_version_opens_without_them(job: Job):
    spec = json.loads(job.paths.spec.read_text())
    job.paths.spec.write_text(json.dumps({**spec, "quantum": True}))
    assert list_jobs(Settings(home=job.paths.root.parents[1], cache=job.paths.root))[0].id == job.id
