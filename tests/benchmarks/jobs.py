"""What jobs cost: a supervisor's memory and CPU, a list of 10,000 jobs, a curve of 1,000,000 points.

Run: `python tests/benchmarks/jobs.py [--jobs 10000] [--points 1000000] [--seconds 10]`.  Supervisors are
real, with ranks without torch that make 50 steps a second; stores are as a year of work leaves them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
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
from nbaas.jobs.job import Job, open_job
from nbaas.jobs.names import new_id
from nbaas.jobs.submit import new_spec, submit
from nbaas.journal import frame
from nbaas.placement import HostResources, place
from nbaas.records import JobPaths, State, to_json
from nbaas.worker.kept import SAVE_ROWS, KeptCurves
from nbaas.worker.metrics import MetricsWriter

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))

from jupyter_process import start_server, stop_server

HERE = HostResources("here", 4)
TICK = os.sysconf("SC_CLK_TCK")
LIGHT_RANK = Path(__file__).parent.parent / "jobs" / "light_rank.py"
ROOT = Path(__file__).resolve().parents[2]
BATCH = 10_000  # rows in one write
KILLED_ROWS = SAVE_ROWS  # rows that a killed rank had written since it kept its curves


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


def past_job(settings: Settings, points: int, series: int) -> Job:
    """Return a job that has ended, with `points` values in `series` curves, as a rank writes them."""
    spec = new_spec(settings, place(HERE, ranks=1), name=f"long-{series}")
    paths = JobPaths(settings.jobs / spec.id)
    paths.root.mkdir(parents=True)
    paths.spec.write_text(json.dumps(to_json(spec)))
    events = EventLog(paths)
    for state in (State.CREATED, State.STARTING, State.RUNNING, State.SUCCEEDED):
        events.enter(state)
    events.close()
    names = ["loss", *(f"m{number}" for number in range(1, series))]
    writer = MetricsWriter(paths.metrics(0))
    began, rows = time.process_time(), points // series
    for step in range(1, rows + 1):
        writer.add(step, 1, dict.fromkeys(names, 1e6 if step == rows // 3 else 1 / step))
        if step % BATCH == 0:
            writer.flush()
    writer.close()
    spent = 1e6 * (time.process_time() - began) / rows
    size = paths.curves(0).stat().st_size / 1024
    print(f"{rows:,} rows of {series} written, {spent:.1f} us a row; their curves: {size:.0f} KiB")
    return open_job(paths.root)


def first_look(jobs: list[Job], root: Path) -> None:
    """Print how soon a server that was just started answers with the curves of each job."""
    process, server = start_server(root)
    shutil.rmtree(server.home)
    server.home.symlink_to(jobs[0].paths.root.parents[1])
    try:
        for job in jobs:
            times = []
            for _ in range(5):
                began = time.perf_counter()
                answer = server.get(f"nbaas/api/jobs/{job.id}?points=600")
                times.append(1000 * (time.perf_counter() - began))
                assert max(answer.json["series"]["loss"]["y"][1:]) == 1e6, "the peak is there"
            print(
                f"server: curves of {job.name:<24} first {times[0]:8.1f} ms   then"
                f" {min(times[1:]):8.1f} ms   {len(answer.body) / 1024:.0f} KiB"
            )
    finally:
        stop_server(process)


def curves(settings: Settings, points: int) -> None:
    from nbaas.widgets.replay import replayed

    jobs = [past_job(settings, points, series) for series in (1, 10)]
    for job in jobs:
        timed(f"%attach, the run of {job.name}", lambda job=job: replayed(job), rounds=3)
    first_look(jobs, settings.home.parent / "server")
    print(f"with the last {KILLED_ROWS:,} rows written by a rank that was then killed:")
    for job in jobs:
        lines = job.paths.metrics(0).read_bytes().splitlines(keepends=True)[:-KILLED_ROWS]
        job.paths.curves(0).unlink()
        whole = job.paths.metrics(0).read_bytes()
        job.paths.metrics(0).write_bytes(b"".join(lines))
        began = time.perf_counter()
        kept = KeptCurves(job.paths.metrics(0))
        kept.read()
        kept.save()
        print(f"{job.name} read whole once: {time.perf_counter() - began:.1f} s")
        job.paths.metrics(0).write_bytes(whole)
    first_look(jobs, settings.home.parent / "killed")


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
