"""Promises of jobs and state, with real processes and kill -9.  Each test bears its promise's name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nbaas.config import Settings
from nbaas.errors import JobRunningError
from nbaas.jobs.events import EventLog
from nbaas.jobs.job import Job, open_job
from nbaas.jobs.submit import new_spec
from nbaas.journal import JournalReader
from nbaas.launchers.processes import tagged
from nbaas.placement import HostResources, place
from nbaas.records import JobPaths, State, to_json
from nbaas.worker.kept import KeptCurves

pytestmark = pytest.mark.ranks

Start = Callable[..., Job]

# Every fourth point has a grandchild that daemonised itself; all rows that a rank saw written are
# acknowledged in a file of its own, by size, before the next is made.
LOOP = """
if DAEMON and rank == 0 and os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
number = 0
while number < 400:
    number += 1
    step(number, 0.005)
"""


def acknowledged(job: Job, rank: int) -> int:
    """Return how many rows are whole in a rank's journal, hence acknowledged to any reader."""
    return len(JournalReader(job.paths.metrics(rank)).read())


def lost_rows(job: Job, before: list[int]) -> int:
    """Return how many rows are missing that a reader had seen, or are there twice or out of order."""
    bad = 0
    for rank, seen in enumerate(before):
        steps = [row.step for row in job.metrics(rank).read()]
        bad += max(0, seen - len(steps)) + (steps != list(range(1, len(steps) + 1)))
        bad += KeptCurves(job.paths.metrics(rank)).read().step != len(steps)
    return bad


def settled(job: Job, wanted: set[State], started: float) -> tuple[State, float]:
    """Return the state once it is final, polled as an observer does, and the seconds it took."""
    while time.monotonic() - started < 15:
        status = job.status()
        if status.state.final:
            break
        time.sleep(0.05)
    return job.status().state, time.monotonic() - started


def orphans(job: Job) -> int:
    """Return the processes of a job that are alive a second after it is over."""
    deadline = time.monotonic() + 1.0
    while (alive := len(list(tagged(job.id)))) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


def signalled(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def test_p3_and_p5_p6_p20_p21_kill_at_random_points(start: Start, tally, rounds, chance):
    for point in range(rounds(100)):
        job = start(f"DAEMON = {point % 4 == 0}\n" + LOOP, queue=False)
        time.sleep(chance.uniform(0.0, 1.2))
        victim = chance.choice(["supervisor", "supervisor", "rank", "all"])
        history = job.history()
        supervisor = [history.supervisor[0]] if history.supervisor[0] else []
        ranks = list(history.pids.values())
        pids = {"supervisor": supervisor, "rank": ranks[-1:], "all": supervisor + ranks}[victim]
        before = [acknowledged(job, rank) for rank in (0, 1)]
        over = job.history().state is not None and job.history().state.final
        signalled(pids, signal.SIGKILL)
        wanted = {State.FAILED} if victim == "rank" else {State.LOST}
        # Where the victim was not there yet, or had just ended, the job simply runs to its end.
        allowed = {State.SUCCEEDED} if over or not pids else wanted | {State.SUCCEEDED}
        if victim == "all":
            allowed |= {State.FAILED}
        state, took = settled(job, wanted, time.monotonic())
        tally.add(
            lost=lost_rows(job, before),
            orphans=orphans(job),
            wrong=state not in allowed,
            took=took if pids and not over else 0.0,
        )
        assert tally.clean(), (tally, victim, state, job.paths.root)


RESTARTS = """
path = os.path.join(os.path.dirname(sys.argv[-2]), f"starts-{rank}")
with open(path, "a") as file: file.write("x")
for number in range(1, 31):
    step(number, 0.005)
    if rank == 1 and number == 10 and os.path.getsize(path) <= 2:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_p3_and_p6_a_kill_while_a_gang_starts_again(start: Start, tally, rounds, chance):
    for _ in range(rounds(40)):
        job = start(RESTARTS, queue=False, max_restarts=3)
        time.sleep(chance.uniform(0.3, 1.8))
        history = job.history()
        over = history.state is not None and history.state.final
        before = [acknowledged(job, rank) for rank in (0, 1)]
        signalled([history.supervisor[0]] if history.supervisor[0] else [], signal.SIGKILL)
        allowed = {State.SUCCEEDED} if over else {State.LOST, State.SUCCEEDED}
        state, took = settled(job, allowed, time.monotonic())
        tally.add(
            lost=lost_rows(job, before),
            orphans=orphans(job),
            wrong=state not in allowed,
            took=0.0 if over else took,
        )
        assert tally.clean(), (tally, state, job.paths.root)


@pytest.mark.parametrize("cause", ["SIGKILL", "SIGSEGV", "exit 1", "memory"])
def test_p4_a_rank_that_dies_ends_the_gang(start: Start, tally, rounds, eventually, cause: str):
    kill = {"SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)", "exit 1": "os._exit(1)",
            "SIGSEGV": "os.kill(os.getpid(), signal.SIGSEGV)",
            "memory": "x = [0] * (1 << 50)"}[cause]  # fmt: skip
    cell = f"step(1)\nprint('the last line')\nif rank == 1: {kill}\nwhile True: step(2)\n"
    for _ in range(rounds(10)):
        job = start(cell, queue=False)
        exited = eventually(lambda job=job: job.history().exits and time.monotonic())
        status = job.wait(10)
        took = time.monotonic() - exited
        named = status.failure is not None and status.failure.rank == 1
        kept = status.failure and (
            "the last line" in status.failure.traceback or status.failure.kind == "MemoryError"
        )
        tally.add(
            orphans=orphans(job),
            wrong=status.state is not State.FAILED or not named or not kept,
            took=took,
        )
        assert tally.clean(), (tally, status)


def test_p7_a_stopped_supervisor_is_unresponsive_and_recovers(
    start: Start, tally, rounds, eventually
):
    job = start("while True: step(1)\n", queue=False)
    eventually(lambda job=job: job.status().state is State.RUNNING)
    supervisor = job.history().supervisor[0]
    for _ in range(rounds(10)):
        stopped = time.monotonic()
        os.kill(supervisor, signal.SIGSTOP)
        status = eventually(lambda job=job: (s := job.status()).flags and s)
        took = time.monotonic() - stopped
        os.kill(supervisor, signal.SIGCONT)
        eventually(lambda job=job: not job.status().flags)
        wrong = status.state is not State.RUNNING or status.flags != {"UNRESPONSIVE"}
        tally.add(wrong=wrong, took=took)
    assert tally.clean(), tally


def test_p8_a_rank_that_hangs_is_stalled_and_its_stack_is_in_the_log(start, tally, eventually):
    for number in (signal.SIGSTOP, None, None):
        cell = "def hangs():\n    time.sleep(600)\nstep(1)\nif rank == 1: hangs()\nwhile True: step(2)\n"
        job = start(cell, stall_timeout=1.0, queue=False)
        eventually(lambda job=job: all(rank.progress.step for rank in job.status().ranks))
        begun = time.monotonic()
        if number is not None:
            os.kill(job.status().ranks[0].pid, number)
        eventually(lambda job=job: "STALLED" in job.status().flags)
        took = time.monotonic() - begun
        eventually(lambda job=job: "hangs" in job.log(1).read())
        tally.add(wrong=job.status().state is not State.RUNNING, took=took)
        job.kill()
        job.wait(10)
    assert tally.clean(), tally


LAUNCHER = """
import sys
from dataclasses import replace
from pathlib import Path
from nbaas.config import Settings
from nbaas.errors import JobRunningError
from nbaas.jobs.submit import new_spec, submit
from nbaas.placement import HostResources, place
home, python = Path(sys.argv[1]), sys.argv[2]
settings = Settings(home=home, cache=home, engine="ddp", warm=False, queue=False)
def write(bundle):
    bundle.mkdir()
    (bundle / "cell.py").write_text("for number in range(1, 100): step(number)")
for name in sys.stdin:
    spec = new_spec(settings, place(HostResources("here", 2), ranks=1), name=name.strip())
    try:
        print(submit(settings, replace(spec, python=python), write).id, flush=True)
    except JobRunningError:
        print("busy", flush=True)
"""


def test_p9_of_four_launchers_of_one_name_exactly_one_runs(
    settings: Settings, light_python: str, tally, rounds
):
    command = [sys.executable, "-c", LAUNCHER, str(settings.home), light_python]
    launchers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for number in range(rounds(25)):
        for launcher in launchers:
            launcher.stdin.write(f"name-{number}\n")
            launcher.stdin.flush()
        answers = [launcher.stdout.readline().strip() for launcher in launchers]
        ids = [answer for answer in answers if answer != "busy"]
        tally.add(wrong=len(ids) != 1)
        assert tally.clean(), answers
        job = open_job(settings.jobs / ids[0])
        job.kill()
        assert job.wait(20).state.final
    for launcher in launchers:
        launcher.stdin.close()
        assert launcher.wait(20) == 0


RECONCILER = """
import sys
from pathlib import Path
from nbaas.jobs.job import open_job
for root in sys.stdin:
    print(open_job(Path(root.strip())).wait(10).state, flush=True)
"""


def test_p10_four_readers_of_one_dead_job_write_one_lost_event(
    start: Start, tally, rounds, eventually
):
    command = [sys.executable, "-c", RECONCILER]
    readers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for _ in range(rounds(20)):
        job = start("while True: step(1)\n", 1, queue=False)
        supervisor = eventually(lambda job=job: job.history().supervisor[0])
        os.kill(supervisor, signal.SIGKILL)
        begun = time.monotonic()
        for reader in readers:
            reader.stdin.write(f"{job.paths.root}\n")
            reader.stdin.flush()
        answers = [reader.stdout.readline().strip() for reader in readers]
        events = [e["state"] for e in JournalReader(job.paths.events).read() if "state" in e]
        wrong = answers != ["LOST"] * 4 or events.count("LOST") != 1
        tally.add(wrong=wrong, orphans=orphans(job), took=time.monotonic() - begun)
        assert tally.clean(), (answers, events)
    for reader in readers:
        reader.stdin.close()
        assert reader.wait(20) == 0


def test_p12_a_job_of_before_the_reboot_is_lost_and_not_started_again(settings: Settings, tally):
    spec = new_spec(settings, place(HostResources("here", 2), ranks=1))
    paths = JobPaths(settings.jobs / spec.id)
    paths.root.mkdir(parents=True)
    paths.spec.write_text(json.dumps(to_json(spec)))
    events = EventLog(paths)
    events.enter(State.CREATED)
    # The number of the process is alive in this boot, as another's.
    events.enter(State.STARTING, pid=os.getpid(), pid_start=1, boot="another-boot", host="")
    events.note("SPAWNED", pids={0: os.getpid()})
    events.enter(State.RUNNING)
    events.close()
    status = open_job(paths.root).status()
    tally.add(wrong=status.state is not State.LOST)
    assert tally.clean()


def test_p12_a_job_of_another_host_on_the_same_files_is_not_judged(settings: Settings, tally):
    spec = new_spec(settings, place(HostResources("here", 2), ranks=1))
    paths = JobPaths(settings.jobs / spec.id)
    paths.root.mkdir(parents=True)
    paths.spec.write_text(json.dumps(to_json(spec)))
    events = EventLog(paths)
    events.enter(State.CREATED)
    events.enter(State.STARTING, pid=1, pid_start=1, boot="b", host="some-other-host")
    events.close()
    tally.add(wrong=open_job(paths.root).status().state is not State.STARTING)
    assert tally.clean()


def test_p13_ranks_that_ignore_sigterm_are_killed_after_the_grace(
    start: Start, tally, rounds, eventually
):
    cell = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: step(1)\n"
    for _ in range(rounds(5)):
        job = start(cell, stop_grace=0.5, queue=False)
        eventually(lambda job=job: all(rank.progress.step for rank in job.status().ranks))
        job.stop()
        begun = time.monotonic()
        job.stop()
        status = job.wait(10)
        took = time.monotonic() - begun
        tally.add(wrong=status.state is not State.CANCELLED, orphans=orphans(job), took=took)
    assert tally.clean(), tally


def test_p16_sigterm_to_everything_lets_the_ranks_bring_their_values(
    start: Start, tally, rounds, eventually
):
    for _ in range(rounds(10)):
        job = start("while True: step(1)\n", queue=False)
        eventually(lambda job=job: all(rank.progress.step for rank in job.status().ranks))
        history = job.history()
        begun = time.monotonic()
        signalled([history.supervisor[0], *history.pids.values()], signal.SIGTERM)
        status = job.wait(15)
        brought = job.paths.result.is_dir()
        tally.add(
            wrong=status.state is not State.INTERRUPTED or not brought,
            orphans=orphans(job),
            took=time.monotonic() - begun,
        )
        assert tally.clean(), status


def test_a_name_whose_supervisor_was_killed_can_be_used_again(start: Start, eventually):
    job = start("while True: step(1)\n", 1, name="again", queue=False)
    supervisor = eventually(lambda job=job: job.history().supervisor[0])
    with pytest.raises(JobRunningError):
        start("step(1)\n", 1, name="again", queue=False)
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda job=job: job.status().state is State.LOST)
    assert start("step(1)\n", 1, name="again", queue=False).wait(20).state is State.SUCCEEDED


CLOCKED = """#!/bin/sh
LD_PRELOAD={library} WALL_CLOCK_OFFSET={offset} exec {python} "$@"
"""
CLOCKED_LAUNCHER = """
import sys
from nbaas.jobs import submit
submit.sys.executable = sys.argv[3]
"""
CLOCKED_LAUNCHER += LAUNCHER.replace("100", "300")


def moved(job: Job, step: int) -> bool:
    status = job.status()
    return status.state.final or status.ranks[0].progress.step > step


def test_p11_jumps_of_the_wall_clock_change_nothing(
    settings: Settings, light_python: str, tmp_path: Path, tally, rounds, chance, eventually
):
    library, offset = tmp_path / "wall_clock.so", tmp_path / "offset"
    source = Path(__file__).with_name("wall_clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    offset.write_text("0")
    pythons = []
    for number, python in enumerate((sys.executable, light_python)):
        pythons.append(tmp_path / f"clocked-{number}")
        pythons[-1].write_text(CLOCKED.format(library=library, offset=offset, python=python))
        pythons[-1].chmod(0o755)
    launcher = subprocess.run(
        [sys.executable, "-c", CLOCKED_LAUNCHER, settings.home, pythons[1], pythons[0]],
        input="clocked\n", stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    job = open_job(settings.jobs / launcher.stdout.strip())
    eventually(lambda: job.status().state is State.RUNNING)
    day, moments = 86400, []
    for _ in range(max(20, rounds(100))):
        seconds = chance.choice([-day, 400 * day, chance.randrange(-day, 400 * day)])
        temporary = tmp_path / "offset.tmp"
        temporary.write_text(str(seconds))
        temporary.rename(offset)
        step = job.status().ranks[0].progress.step
        if not job.status().state.final:
            eventually(lambda step=step: moved(job, step + 1))
        moments.append(seconds)
        status = job.status()
        tally.add(wrong=bool(status.flags) or status.state not in (State.RUNNING, State.SUCCEEDED))
    status = job.wait(30)
    steps = [row.step for row in job.metrics(0).read()]
    events = JournalReader(job.paths.events).read()
    jumped = max(event["time"] for event in events) - min(event["time"] for event in events)
    tally.add(wrong=status.state is not State.SUCCEEDED, lost=299 - len(steps))
    assert steps == list(range(1, 300))
    assert jumped > day / 2, "the clock of the supervisor did not jump"
    assert tally.clean(), (tally, moments)
