"""Promises about the Jupyter server: it dies, the jobs do not, and the next one tells the truth."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "server"))

from jupyter_process import Starter, light_python, start_server, stop_server

from nbaas.records import State

pytestmark = pytest.mark.ranks
RIGHT_AFTER = 10.0  # seconds, on a busy machine; the promise is 2
CELL = "for number in range(1, 10**6): step(number, 0.02)\n"


def test_p2_a_server_that_is_killed_touches_no_job_and_the_next_is_right(
    tmp_path: Path, tally, rounds, chance, eventually
):
    home = tmp_path / "home"
    start = Starter(home, light_python(tmp_path))
    jobs = [start(CELL, 1, name=f"job-{number}", queue=False) for number in range(3)]
    eventually(lambda: all(job.status().state is State.RUNNING for job in jobs))
    ended: dict[str, State] = {}
    try:
        for number in range(rounds(20)):
            root = tmp_path / f"server-{number}"
            root.mkdir()
            process, server = start_server(root, NBAAS_HOME=str(home))
            truth = {job.id: str(ended.get(job.id, State.RUNNING)) for job in jobs}
            begun, listed = time.monotonic(), {}
            while listed != truth and time.monotonic() - begun < RIGHT_AFTER:
                rows = server.get("nbaas/api/jobs").json["jobs"]
                listed = {row["id"]: row["state"] for row in rows}
            tally.add(wrong=listed != truth, took=time.monotonic() - begun)
            assert tally.clean(), (listed, truth)
            time.sleep(chance.uniform(0.0, 0.3))
            process.send_signal(signal.SIGKILL)
            process.wait(20)
            # While nobody looks one job ends, and another takes its place.
            job = chance.choice([job for job in jobs if job.id not in ended])
            os.kill(job.history().supervisor[0], signal.SIGKILL)
            ended[job.id] = State.LOST
            jobs.append(start(CELL, 1, queue=False))
            eventually(lambda: jobs[-1].status().state is State.RUNNING)
            steps = {job.id: len(job.metrics(0).read()) for job in jobs if job.id not in ended}
            eventually(
                lambda steps=steps: all(
                    len(job.metrics(0).read()) > steps[job.id] for job in jobs if job.id in steps
                )
            )
    finally:
        stop_server(process)
        start.clean()
    assert all(row.step == n for n, row in enumerate(jobs[-1].metrics(0).read(), 1))
