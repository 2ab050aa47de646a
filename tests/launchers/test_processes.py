"""Processes of a job are found by their tag and ended for good; nobody else's are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nbaas.launchers.processes import Command, kill_tagged, reap, spawn, start_time, tagged

pytestmark = pytest.mark.ranks


def sleeper(tmp_path: Path, tag: str, program: str = "import time; time.sleep(600)"):
    env = {"NBAAS_JOB": tag, "PATH": os.environ["PATH"]}
    argv = (sys.executable, "-S", "-c", program)
    return spawn(Command(argv=argv, env=env, cwd=tmp_path, log=tmp_path / "logs" / "r0.log"))


def test_every_process_of_a_job_is_ended_and_no_other(tmp_path: Path):
    mine = [sleeper(tmp_path, "job-a") for _ in range(3)]
    other = sleeper(tmp_path, "job-ab")
    try:
        assert set(tagged("job-a")) == {process.pid for process in mine}
        assert kill_tagged("job-a") == 3
        assert list(tagged("job-a")) == []
        assert other.exit_code() is None
    finally:
        for process in (*mine, other):
            process.send(signal.SIGKILL)
            process._child.wait(10)
            process.close()
    assert [process.exit_code() for process in mine] == [-signal.SIGKILL] * 3


def test_the_environment_is_the_one_given_and_is_on_no_command_line(tmp_path: Path):
    program = "import os, time; print(sorted(os.environ), flush=True); time.sleep(600)"
    process = sleeper(tmp_path, "canary", program)
    try:
        assert b"canary" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert os.getsid(process.pid) == process.pid
        assert start_time(process.pid) > 0
    finally:
        process.send(signal.SIGKILL)
        process._child.wait(10)
        process.close()
    assert start_time(1 << 22) == 0


def test_a_child_that_someone_else_waits_for_is_not_collected():
    child = subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(3)"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    reap([child.pid])
    assert child.wait(10) == 3


def test_an_adopted_child_is_collected():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    reap([])
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
