from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import nbaas
from nbaas.config import Settings
from nbaas.jobs.job import Job
from nbaas.jobs.submit import new_spec, submit
from nbaas.launchers.processes import kill_tagged
from nbaas.placement import HostResources, place

LIGHT_RANK = Path(__file__).with_name("light_rank.py")
Start = Callable[..., Job]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", cache=tmp_path / "cache", engine="ddp", stop_grace=2.0)


@pytest.fixture
def light_python(tmp_path: Path) -> str:
    """An `interpreter` whose every start is a rank without torch: supervision alone, in 0.1 s."""
    script = tmp_path / "light-python"
    home = Path(nbaas.__file__).parents[1]
    script.write_text(
        f"#!{sys.executable} -S\n"
        f"import sys; sys.path.append({str(home)!r})\n"
        f"exec(compile(open({str(LIGHT_RANK)!r}).read(), {str(LIGHT_RANK)!r}, 'exec'))\n"
    )
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def start(settings: Settings, light_python: str) -> Iterator[Start]:
    """Start a job of light ranks that run `cell`; whatever is left of it is killed at the end."""
    jobs: list[Job] = []

    def start(cell: str, ranks: int = 2, **fields: object) -> Job:
        slots = place(HostResources("here", 2), ranks=ranks)
        spec = new_spec(settings, slots, name=str(fields.pop("name", "")))
        spec = replace(spec, python=light_python, **fields)
        job = submit(settings, spec, lambda bundle: write_cell(bundle, cell))
        jobs.append(job)
        return job

    yield start
    for job in jobs:
        job.kill()
        job.wait(10)
        kill_tagged(job.id)


def write_cell(bundle: Path, cell: str) -> None:
    bundle.mkdir()
    (bundle / "cell.py").write_text(cell)


def until(condition: Callable[[], object], seconds: float = 20.0) -> object:
    """Return what `condition` gives once it is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.01)
    return found


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def supervisor_pid(job: Job) -> int:
    return int(until(lambda: job.history().supervisor[0]))  # type: ignore[call-overload]


def kill(pid: int, number: int) -> None:
    os.kill(pid, number)
