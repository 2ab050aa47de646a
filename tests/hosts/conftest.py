from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from lab import Lab, lab_of, missing

from nbaas.bundle import build_bundle
from nbaas.capture import capture_cell
from nbaas.config import Settings
from nbaas.jobs.job import Job
from nbaas.jobs.submit import new_spec, submit
from nbaas.placement import HostResources, parse_hosts, place_on


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Two hosts reached by ssh; skipped with the reason where they cannot be made."""
    if reason := missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="nb-hosts-") as folder, lab_of(Path(folder)) as made:
        before = os.environ.get("XDG_RUNTIME_DIR")
        (made.here / "run").mkdir(mode=0o700)
        os.environ["XDG_RUNTIME_DIR"] = str(made.here / "run")
        yield made
        os.environ.pop("XDG_RUNTIME_DIR")
        if before is not None:
            os.environ["XDG_RUNTIME_DIR"] = before


@pytest.fixture
def settings(lab: Lab) -> Settings:
    home = lab.here / "home"
    return Settings(
        home=home, cache=lab.here, engine="ddp", ssh_config=str(lab.config), host_timeout=6.0
    )


@pytest.fixture
def run(lab: Lab, settings: Settings) -> Iterator[Callable[..., Job]]:
    """Start a job on hosts written as a person writes them; `here` is this machine."""
    jobs: list[Job] = []

    def run(cell: str, values: dict[str, Any] | None = None, *, on: str = "a:1,b:1", **fields: Any):
        asked = parse_hosts(on)
        there = [(entry, HostResources(entry.host.name, 2)) for entry in asked]
        hosts = [entry.host for entry in asked if entry.host.name != "here"]
        timeout = fields.pop("host_timeout", settings.host_timeout)
        spec = new_spec(settings, place_on(there), hosts=hosts, **fields)
        spec = replace(spec, host_timeout=timeout)
        spec = replace(spec, cwd=str(lab.notebooks))
        contents = capture_cell(cell, values or {}, execution_count=3, history=[])
        job = submit(settings, spec, lambda path: build_bundle(path, contents, settings.blobs))
        jobs.append(job)
        return job

    run.jobs = jobs
    yield run
    for host in lab.hosts.values():
        host.join()
    for job in jobs:
        with contextlib.suppress(Exception):
            job.kill()
        job.wait(20)


@pytest.fixture
def run_bundle(run, settings: Settings) -> Callable[[Job], Job]:
    """Start a job that runs the very bundle of another."""

    def again(job: Job) -> Job:
        fresh = new_spec(settings, job.spec.slots, engine=job.spec.engine, hosts=job.spec.hosts)
        spec = replace(fresh, cwd=job.spec.cwd, seed=job.spec.seed)
        copied = submit(settings, spec, lambda path: shutil.copytree(job.paths.bundle, path))
        run.jobs.append(copied)
        return copied

    return again
