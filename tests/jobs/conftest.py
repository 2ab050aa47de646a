from __future__ import annotations

import sys
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


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", cache=tmp_path / "cache", engine="ddp", stop_grace=2.0)


@pytest.fixture
def light_python(tmp_path: Path) -> str:
    """An 'interpreter' whose every start is a rank without torch: supervision alone, in 0.1 s."""
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
def start(settings: Settings, light_python: str) -> Iterator[Callable[..., Job]]:
    """Start a job of light ranks that run `cell`; whatever is left of it is killed at the end."""
    jobs: list[Job] = []

    def start(cell: str, ranks: int = 2, *, name: str = "", **fields: object) -> Job:
        spec = new_spec(settings, place(HostResources("here", 2), ranks=ranks), name=name)
        spec = replace(spec, **{"python": light_python, "zygote": "", **fields})
        jobs.append(submit(settings, spec, cell_writer(cell)))
        return jobs[-1]

    yield start
    for job in (job for job in jobs if job.paths.root.exists()):
        job.kill()
        job.wait(10)
        kill_tagged(job.id)


@pytest.fixture
def write_cell() -> Callable[[str], Callable[[Path], None]]:
    return cell_writer


def cell_writer(cell: str) -> Callable[[Path], None]:
    """Return what writes a bundle of one file: light ranks run it."""

    def write(bundle: Path) -> None:
        bundle.mkdir()
        (bundle / "cell.py").write_text(cell)

    return write
