from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nbaas.bundle import build_bundle
from nbaas.capture import capture_cell
from nbaas.config import Settings
from nbaas.jobs.job import Job
from nbaas.jobs.submit import new_spec, submit
from nbaas.launchers import zygote
from nbaas.placement import HostResources, place


@pytest.fixture(scope="session")
def sockets() -> Iterator[Path]:
    """A folder for the sockets of these tests, so that no zygote of the user is asked."""
    before = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(tempfile.mkdtemp(prefix="nb-sockets-"))
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    yield folder
    for listens_at in (folder / "nbaas").glob("zygote-*.sock"):
        if status := zygote.status(listens_at):
            os.kill(status["pid"], signal.SIGKILL)
    if before is None:
        del os.environ["XDG_RUNTIME_DIR"]
    else:
        os.environ["XDG_RUNTIME_DIR"] = before
    shutil.rmtree(folder)


@pytest.fixture
def settings(tmp_path: Path, sockets: Path) -> Settings:
    home = tmp_path / "home"
    return Settings(home=home, cache=tmp_path, engine="ddp", stop_grace=30.0, zygote_idle=600.0)


@pytest.fixture
def warm(settings: Settings, eventually: Callable[..., object]) -> Path:
    """The address of a zygote that has everything imported; it serves all tests of the session."""
    eventually(lambda: zygote.status(zygote.ensure(settings)), timeout=120)
    return zygote.address()


@pytest.fixture
def run(settings: Settings) -> Iterator[Callable[..., Job]]:
    """Start a job that runs `cell` on the values given, as a notebook would."""
    jobs: list[Job] = []

    def run(cell: str, values: dict[str, Any] | None = None, *, ranks: int = 2, **fields: Any):
        slots = place(HostResources("here", 2), ranks=ranks)
        cold = fields.pop("cold", False)
        extra = {k: fields.pop(k) for k in ("checkpoint_every", "max_restarts") if k in fields}
        spec = new_spec(replace(settings, warm=not cold), slots, engine="ddp", **fields)
        spec = replace(spec, **extra)
        contents = capture_cell(cell, values or {}, execution_count=3, history=[])
        job = submit(settings, spec, lambda path: build_bundle(path, contents, settings.blobs))
        jobs.append(job)
        return job

    yield run
    for job in jobs:
        job.kill()
        job.wait(10)
