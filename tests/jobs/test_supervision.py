"""Jobs of real processes under a real supervisor; the ranks are light, the ties are the true ones."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from nbaas.config import Settings
from nbaas.errors import JobError, JobNotFoundError, JobRunningError, UsageError
from nbaas.jobs.follow import follow
from nbaas.jobs.job import Job
from nbaas.jobs.store import find_job, list_jobs
from nbaas.jobs.submit import new_spec, submit
from nbaas.journal import JournalReader
from nbaas.launchers.locks import take_lock
from nbaas.launchers.processes import tagged
from nbaas.placement import HostResources, place
from nbaas.records import State

pytestmark = pytest.mark.ranks

Start = Callable[..., Job]
Eventually = Callable[..., object]

STEPS = "for number in range(1, 21): step(number)\n"
FOREVER = "number = 0\nwhile True:\n    number += 1\n    step(number)\n"
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf')\n" + FOREVER


def running(job: Job, eventually: Eventually) -> Job:
    """Return the job once every rank has made a step."""
    eventually(lambda: all(rank.progress.step for rank in job.status().ranks))
    return job


def events(job: Job, key: str = "state") -> list[str]:
    return [event[key] for event in JournalReader(job.paths.events).read() if key in event]


def supervisor(job: Job) -> int:
    return job.history().supervisor[0]


def test_a_job_that_ends_well_goes_through_its_states_and_leaves_no_process(start: Start):
    job = start(STEPS)
    status = job.wait(20)
    assert status.state is State.SUCCEEDED
    assert events(job) == ["CREATED", "STARTING", "RUNNING", "SUCCEEDED"]
    assert [rank.exit_code for rank in status.ranks] == [0, 0]
    assert list(tagged(job.id)) == []
    assert job.paths.result.is_dir()


def test_a_follower_gets_every_log_line_and_every_metric_row_in_order(start: Start):
    job = start("for number in range(1, 31):\n    step(number)\n    print('line', number)\n")
    updates = list(follow(job))
    assert "".join(update.log for update in updates) == "".join(
        f"line {number}\n" for number in range(1, 31)
    )
    for rank in (0, 1):
        rows = [row for update in updates for row in update.metrics.get(rank, [])]
        assert [row.step for row in rows] == list(range(1, 31))
        assert rows[3].values == {"loss": 0.25}
    assert updates[-1].status.state is State.SUCCEEDED


def test_a_rank_that_raises_ends_the_gang_and_is_named_with_its_own_error(start: Start):
    job = start("step(1)\nif rank == 1: raise ValueError('no such column')\n" + FOREVER)
    status = job.wait(20)
    assert status.state is State.FAILED
    assert status.reason == "rank 1 on here: ValueError: no such column"
    assert status.failure is not None
    assert (status.failure.rank, status.failure.kind) == (1, "ValueError")
    assert "no such column" in status.failure.traceback
    assert list(tagged(job.id)) == []


def test_a_rank_that_lost_its_peer_is_not_the_one_that_is_blamed(start: Start):
    cell = "step(1)\nif rank == 0: raise ConnectionError('peer gone')\nstep(2, 0.3)\nos._exit(3)\n"
    status = start(cell).wait(20)
    assert status.reason == "rank 1 on here: left with exit code 3"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_p4_a_rank_that_is_killed_ends_the_gang_and_its_last_lines_are_kept(
    start: Start, eventually: Eventually, number: signal.Signals
):
    job = running(start("print('reading shard 7')\n" + FOREVER), eventually)
    os.kill(job.status().ranks[1].pid, number)
    status = job.wait(10)
    assert status.state is State.FAILED
    assert number.name in status.reason
    assert status.reason.startswith("rank 1 ")
    assert status.failure is not None
    assert "reading shard 7" in status.failure.traceback
    assert status.ranks[1].exit_code == -number
    assert list(tagged(job.id)) == []


def test_a_stopped_job_finishes_its_step_and_brings_its_result(
    start: Start, eventually: Eventually
):
    job = running(start(FOREVER), eventually)
    job.stop()
    status = job.wait(10)
    assert status.state is State.STOPPED
    assert [rank.exit_code for rank in status.ranks] == [75, 75]
    assert job.paths.result.is_dir()


def test_p13_ranks_that_ignore_sigterm_are_killed_after_the_grace(
    start: Start, eventually: Eventually
):
    job = running(start(DEAF, stop_grace=0.5), eventually)
    job.stop()
    job.stop()
    status = job.wait(10)
    assert status.state is State.CANCELLED
    assert "did not finish their step within 0.5 s" in status.reason
    assert events(job)[-3:] == ["STOPPING", "CANCELLING", "CANCELLED"]
    assert list(tagged(job.id)) == []


def test_a_killed_job_ends_at_once_whatever_its_ranks_do(start: Start, eventually: Eventually):
    job = running(start(DEAF, stop_grace=600.0), eventually)
    job.kill()
    assert job.wait(10).state is State.CANCELLED
    job.kill()
    job.stop()
    assert job.status().state is State.CANCELLED


def test_p3_a_job_whose_supervisor_is_killed_is_lost_and_leaves_no_process(
    start: Start, eventually: Eventually
):
    cell = (
        "if rank == 0 and os.fork() == 0:\n"
        "    os.setsid()\n    if os.fork() == 0:\n        time.sleep(600)\n    os._exit(0)\n"
    )
    job = running(start(cell + FOREVER), eventually)
    eventually(lambda: len(list(tagged(job.id))) == 3)
    os.kill(supervisor(job), signal.SIGKILL)
    status = eventually(lambda: (s := job.status()).state.final and s)
    assert status.state is State.LOST
    assert list(tagged(job.id)) == []
    rows = job.metrics(0).read()
    assert [row.step for row in rows] == list(range(1, len(rows) + 1))


def test_a_rank_that_keeps_the_interpreter_busy_dies_with_its_supervisor(
    start: Start, eventually: Eventually
):
    job = running(start("step(1)\nsum(iter(lambda: 1, 2))\n"), eventually)
    pids = [rank.pid for rank in job.status().ranks]
    os.kill(supervisor(job), signal.SIGKILL)
    # Nobody has asked for the status: the ranks end by themselves.
    eventually(lambda: not set(pids) & set(tagged(job.id)))


def test_p10_readers_that_find_a_dead_job_together_declare_it_lost_once(
    start: Start, settings: Settings, eventually: Eventually
):
    job = running(start(FOREVER), eventually)
    os.kill(supervisor(job), signal.SIGKILL)
    look = (
        "import sys; from pathlib import Path; from nbaas.jobs.job import open_job\n"
        "print(open_job(Path(sys.argv[1])).wait(10).state)"
    )
    command = [sys.executable, "-c", look, str(job.paths.root)]
    lookers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [looker.communicate(timeout=30)[0].strip() for looker in lookers] == ["LOST"] * 4
    assert events(job).count("LOST") == 1


def test_p1_a_launcher_that_is_killed_does_not_touch_its_job(
    settings: Settings, light_python: str, tmp_path: Path, eventually: Eventually
):
    program = textwrap.dedent(f"""
        import os, signal, time
        from dataclasses import replace
        from pathlib import Path
        from nbaas.config import Settings
        from nbaas.jobs.submit import new_spec, submit
        from nbaas.placement import HostResources, place
        settings = Settings(home=Path({str(settings.home)!r}), cache=Path({str(tmp_path)!r}))
        def write(bundle):
            bundle.mkdir()
            (bundle / "cell.py").write_text({STEPS!r})
        spec = new_spec(settings, place(HostResources("here", 2), ranks=2), name="kept")
        submit(settings, replace(spec, engine="ddp", python={light_python!r}, zygote=""), write)
        os.killpg(0, signal.SIGKILL)
    """)
    kernel = subprocess.run(
        [sys.executable, "-c", program], start_new_session=True, timeout=60, check=False
    )
    assert kernel.returncode == -signal.SIGKILL
    job = find_job(settings, "kept")
    assert job.wait(20).state is State.SUCCEEDED
    assert len(job.metrics(1).read()) == 20


def test_a_launcher_that_dies_before_its_supervisor_leaves_a_job_that_never_started(
    settings: Settings, write_cell
):
    spec = new_spec(settings, place(HostResources("here", 2), ranks=1))
    program = textwrap.dedent(f"""
        import os, signal
        from nbaas.jobs import submit
        from nbaas.config import Settings
        from nbaas.records import JobSpec, Slot
        from pathlib import Path
        submit.start_supervisor = lambda paths, locks: os.kill(0, signal.SIGKILL)
        settings = Settings(home=Path({str(settings.home)!r}), cache=Path("."))
        submit.submit(settings, {spec!r}, lambda bundle: bundle.mkdir())
    """)
    subprocess.run([sys.executable, "-c", program], start_new_session=True, timeout=60, check=False)
    status = find_job(settings, spec.id).status()
    assert (status.state, status.reason) == (
        State.LOST,
        "it never started: its launcher died",
    )


def test_a_bundle_that_cannot_be_written_leaves_nothing(settings: Settings, light_python: str):
    def fail(bundle: Path) -> None:
        bundle.mkdir()
        raise RuntimeError("disk on fire")

    spec = new_spec(settings, place(HostResources("here", 2), ranks=1), name="ash")
    for _ in range(2):  # the name is free again
        with pytest.raises(RuntimeError, match="disk on fire"):
            submit(settings, spec, fail)
    assert list(settings.jobs.iterdir()) == []


def test_p9_of_four_launchers_of_one_name_one_runs(start: Start, settings: Settings, eventually):
    first = running(start(FOREVER, name="digits"), eventually)
    with pytest.raises(JobRunningError, match=f"'digits' is running \\({first.id}\\)"):
        start(STEPS, name="digits")
    first.kill()
    assert first.wait(10).state is State.CANCELLED
    second = start(STEPS, name="digits")
    assert second.wait(10).state is State.SUCCEEDED
    assert find_job(settings, "digits").id == second.id
    assert [job.id for job in list_jobs(settings)] == [second.id, first.id]


def test_a_name_that_is_none_is_refused_before_anything_is_made(settings: Settings):
    slots = place(HostResources("here", 2), ranks=1)
    for name in ("Digits", "a/b", "-x", "a" * 64, "ü", "a\n"):
        with pytest.raises(UsageError, match="not a name for a job"):
            new_spec(settings, slots, name=name)
    assert new_spec(settings, slots).name != new_spec(settings, slots).name


def test_a_job_that_is_not_there_is_answered_with_those_that_are(start: Start, settings: Settings):
    with pytest.raises(JobNotFoundError, match="empty"):
        find_job(settings, "digits")
    start(STEPS, name="digits").wait(20)
    with pytest.raises(JobNotFoundError, match="there are: digits"):
        find_job(settings, "digit")


def test_p7_a_supervisor_that_is_stopped_is_unresponsive_and_keeps_its_lock(
    start: Start, eventually: Eventually
):
    job = running(start(FOREVER), eventually)
    os.kill(supervisor(job), signal.SIGSTOP)
    try:
        eventually(lambda: "UNRESPONSIVE" in job.status().flags)
        assert take_lock(job.paths.lock) is None
        assert job.status().state is State.RUNNING
    finally:
        os.kill(supervisor(job), signal.SIGCONT)
    eventually(lambda: "UNRESPONSIVE" not in job.status().flags)
    job.stop()
    assert job.wait(10).state is State.STOPPED


def test_p8_a_rank_that_hangs_is_flagged_and_its_stacks_are_in_its_log(
    start: Start, eventually: Eventually
):
    cell = "def waits_for_ever():\n    time.sleep(600)\nstep(1)\nwaits_for_ever()\n"
    job = start(cell, stall_timeout=0.5)
    eventually(lambda: "STALLED" in job.status().flags)
    eventually(lambda: "waits_for_ever" in job.log(1).read())
    assert job.status().state is State.RUNNING


def test_p16_a_supervisor_that_gets_sigterm_lets_the_ranks_finish(
    start: Start, eventually: Eventually
):
    job = running(start(FOREVER), eventually)
    os.kill(supervisor(job), signal.SIGTERM)
    status = job.wait(10)
    assert status.state is State.INTERRUPTED
    assert [rank.exit_code for rank in status.ranks] == [75, 75]


def test_ranks_that_do_not_come_in_time_are_named(start: Start):
    slow = "/bin/sleep"
    status = start(STEPS, python=slow, start_timeout=0.1).wait(20)
    assert status.state is State.FAILED


def test_an_interpreter_that_is_not_there_is_a_failure_that_says_so(start: Start):
    status = start(STEPS, python="/nowhere/python").wait(20)
    assert status.state is State.FAILED
    assert "/nowhere/python" in status.reason


def test_p22_torn_and_flipped_lines_of_a_journal_cost_no_other_line(
    start: Start, eventually: Eventually
):
    job = start(STEPS)
    job.wait(20)
    data = job.paths.events.read_bytes()
    job.paths.events.write_bytes(data + b'00000000 {"state":"RUN')
    assert job.status().state is State.SUCCEEDED
    rows = job.paths.metrics(0).read_bytes().splitlines(keepends=True)
    rows[5] = rows[5][:-9] + b"?" + rows[5][-8:]
    job.paths.metrics(0).write_bytes(b"".join(rows))
    reader = job.metrics(0)
    assert [row.step for row in reader.read()] == [n for n in range(1, 21) if n != 6]
    assert reader.damaged == 1


def test_a_rank_that_the_job_does_not_have_is_refused_by_number(start: Start):
    job = start(STEPS)
    with pytest.raises(JobError, match=r"rank 2: .* has ranks 0 to 1"):
        job.log(2)


def test_p65_what_a_job_leaves_can_be_read_by_its_owner_only(start: Start):
    job = start(STEPS)
    job.wait(20)
    assert job.paths.root.stat().st_mode & 0o777 == 0o700
    open_to_others = [
        path for path in job.paths.root.rglob("*") if path.is_file() and path.stat().st_mode & 0o077
    ]
    assert {path.name for path in open_to_others} <= {"cell.py", "spec.json"}


def test_a_job_sees_the_notebook_but_not_its_secrets(start: Start, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "canary-1")
    monkeypatch.setenv("HF_TOKEN", "canary-2")
    monkeypatch.setenv("HF_HOME", "/models")
    monkeypatch.chdir(tmp_path)
    job = start("print(sorted(os.environ.items()), os.getcwd())\n", ranks=1)
    job.wait(20)
    said = job.log(0).read()
    assert "canary" not in said
    assert "canary" not in job.paths.spec.read_text()
    assert "('HF_HOME', '/models')" in said
    assert str(tmp_path) in said


def test_a_supervisor_is_small(start: Start, eventually: Eventually):
    job = running(start(FOREVER), eventually)
    kilobytes = int(
        Path(f"/proc/{supervisor(job)}/status").read_text().partition("VmRSS:")[2].split()[0]
    )
    assert kilobytes < 20 << 10


def test_a_job_whose_folder_is_removed_ends(start: Start, eventually: Eventually):
    job = running(start(DEAF), eventually)
    keeper = supervisor(job)
    shutil.rmtree(job.paths.root)
    eventually(lambda: not list(tagged(job.id)))
    eventually(lambda: not Path(f"/proc/{keeper}").exists())
