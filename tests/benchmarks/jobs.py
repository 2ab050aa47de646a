"""What jobs cost: a supervisor's memory and CPU, a list of 10,000 jobs, a curve of 1,000,000 points.

Run: `python tests/benchmarks/jobs.py [--jobs 10000] [--points 1000000] [--seconds 10]`.  Supervisors are
real, with ranks without torch that make 50 steps a second; stores are as a year of work leaves them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from nbaas.config import Settings
from nbaas.jobs.events import EventLog
from nbaas.jobs.index import Index
from nbaas.jobs.job import open_job
from nbaas.jobs.names import new_id
from nbaas.jobs.submit import new_spec, submit
from nbaas.journal import frame
from nbaas.placement import HostResources, place
from nbaas.records import JobPaths, State, to_json

HERE = HostResources("here", 4)
TICK = os.sysconf("SC_CLK_TCK")
LIGHT_RANK = Path(__file__).parent.parent / "jobs" / "light_rank.py"
ROOT = Path(__file__).resolve().parents[2]
BATCH = 10_000  # rows in one write


def light_python(folder: Path) -> str:
    """Return an 'interpreter' whose every start is a rank without torch."""
    script = folder / "light-python"
    run = f"exec(compile(open({str(LIGHT_RANK)!r}).read(), {str(LIGHT_RANK)!r}, 'exec'))\n"
    script.write_text(f"#!{sys.executable} -S\nimport sys; sys.path.append({str(ROOT)!r})\n{run}")
    script.chmod(0o755)
    return str(script)


def supervisors(settings: Settings, folder: Path, seconds: float) -> None:
    """Print memory and CPU of a supervisor whose two ranks train."""

    def write(bundle: Path) -> None:
        bundle.mkdir()
        (bundle / "cell.py").write_text("n = 0\nwhile True:\n    n += 1\n    step(n, 0.02)\n")

    spec = new_spec(settings, place(HERE, ranks=2))
    spec = replace(spec, python=light_python(folder), queue=False, zygote="")
    job = submit(settings, spec, write)
    while job.status().state is not State.RUNNING:
        time.sleep(0.05)
    pid = job.history().supervisor[0]
    began, spent = time.monotonic(), cpu(pid)
    time.sleep(seconds)
    share = (cpu(pid) - spent) / (time.monotonic() - began)
    status = Path(f"/proc/{pid}/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    job.kill()
    job.wait(10)
    print(
        f"supervisor       {resident:6.1f} MiB   {100 * share:.2f} % of a core over {seconds:g} s"
    )


def cpu(pid: int) -> float:
    """Return the processor seconds of a process; ticks are 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def past_jobs(settings: Settings, count: int) -> None:
    """Make the directories of `count` jobs that have ended."""
    base = new_spec(settings, place(HERE, ranks=2))
    now = time.time()
    for number in range(count):
        moment = now - 60 * (count - number)
        spec = replace(base, id=new_id(moment), name=f"job-{number % 300}", created=moment)
        paths = JobPaths(settings.jobs / spec.id)
        paths.root.mkdir(parents=True)
        paths.spec.write_text(json.dumps(to_json(spec)))
        events = [{"state": "CREATED"}, {"state": "STARTING", "pid": 1}, {"state": "RUNNING"},
                  {"state": "SUCCEEDED"}]  # fmt: skip
        paths.events.write_bytes(b"".join(frame({"time": moment, **event}) for event in events))


def timed(what: str, work: Callable[[], Any], rounds: int = 5) -> None:
    """Print the time of the first call and the best of those after it."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - began))
    print(f"{what:<40} first {times[0]:8.1f} ms   then {min(times[1:]):8.1f} ms")


def lists(settings: Settings, count: int) -> None:
    from nbaas.magics.jobs import job_table
    from nbaas.server.jobs import JobIndex

    os.environ["NBAAS_HOME"] = str(settings.home)
    past_jobs(settings, count)
    timed(f"%jobs of {count:,} jobs", lambda: job_table(20))
    panel = JobIndex(settings)
    timed(f"panel's list of {count:,} jobs", lambda: panel.rows(30))


def curves(settings: Settings, points: int) -> None:
    from nbaas.server.jobs import JobIndex

    spec = new_spec(settings, place(HERE, ranks=1), name="long")
    paths = JobPaths(settings.jobs / spec.id)
    paths.root.mkdir(parents=True)
    paths.spec.write_text(json.dumps(to_json(spec)))
    events = EventLog(paths)
    for state in (State.CREATED, State.STARTING, State.RUNNING, State.SUCCEEDED):
        events.enter(state)
    events.close()
    paths.metrics(0).parent.mkdir()
    with paths.metrics(0).open("wb") as file:
        for start in range(0, points, BATCH):
            steps = range(start + 1, start + BATCH + 1)
            rows = (
                {"time": 1e9 + n, "step": n, "epoch": 1, "values": {"loss": 1 / n}} for n in steps
            )
            file.write(b"".join(map(frame, rows)))
    job = open_job(paths.root)
    index = Index(settings)
    began = time.perf_counter()
    index.take(job)
    print(f"read in {points:,} points once               {time.perf_counter() - began:8.1f} s")
    timed(f"curve of {points:,} points (index)", lambda: index.curve(job.id, "loss"))
    panel = JobIndex(settings)
    timed(f"curve of {points:,} points (panel)", lambda: panel.series(job, 600), rounds=3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "home", cache=Path(folder), engine="ddp")
        supervisors(settings, Path(folder), wanted.seconds)
        lists(settings, wanted.jobs)
        curves(replace(settings, home=Path(folder) / "other"), wanted.points)


if __name__ == "__main__":
    main()
