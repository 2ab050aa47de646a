"""What a crash leaves is found without being touched, and mended on request; what lives is left alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nbaas.config import Settings
from nbaas.jobs.job import Job
from nbaas.jobs.leftovers import find_leftovers, mend_all
from nbaas.jobs.names import new_id
from nbaas.launchers.processes import TAG
from nbaas.launchers.sockets import socket_folder
from nbaas.records import State

pytestmark = pytest.mark.ranks


@pytest.fixture(autouse=True)
def sockets(tmp_path: Path, monkeypatch) -> None:
    """A folder for the sockets of this test, so that those of others are not looked at."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))


def test_everything_that_a_crash_leaves_is_found_and_mended(
    start: Callable[..., Job], settings: Settings, eventually
):
    living = start("while True: step(1)\n", 1, queue=False)
    over = start("step(1)\n", 1, queue=False)
    over.wait(20)
    killed = start("while True: step(1)\n", 1, queue=False)
    eventually(lambda: living.status().state is killed.status().state is State.RUNNING)
    os.kill(killed.history().supervisor[0], signal.SIGKILL)
    (settings.jobs / f".{new_id(0)}.gone").mkdir()
    (over.paths.checkpoints / ".40.draft").mkdir(parents=True)
    with over.paths.events.open("ab") as file:
        file.write(b'0000 {"sta')
    orphan = subprocess.Popen(["sleep", "600"], env={TAG: over.id})
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_folder() / f"{over.id}.sock"))
    over.paths.curves(0).write_bytes(b"?" * 8192)

    def kinds() -> list[str]:
        return sorted({item.kind for item in find_leftovers(settings)})

    everything = [
        "checkpoint",
        "curves",
        "dead socket",
        "draft",
        "lost job",
        "orphan",
        "torn journal",
    ]
    # The lock of a killed process is free a moment later.
    eventually(lambda: kinds() == everything)
    assert orphan.poll() is None
    assert mend_all(find_leftovers(settings)) == []
    assert kinds() == []
    assert orphan.wait(10) == -signal.SIGKILL
    assert killed.status().state is State.LOST
    assert over.status().state is State.SUCCEEDED
    assert living.status().state is State.RUNNING
    assert not over.paths.curves(0).exists()


def test_the_doctor_names_what_was_left_and_mends_it_when_told_to(settings: Settings, cli):
    gone = settings.jobs / f".{new_id(0)}.gone"
    gone.mkdir(parents=True)
    told = cli("doctor").stdout
    assert f"left     draft              {gone}" in told
    assert "nbaas doctor --fix mends what crashes have left" in told
    assert gone.exists()
    assert f"mended   draft              {gone}" in cli("doctor", "--fix").stdout
    assert not gone.exists()
    assert "draft" not in cli("doctor").stdout
