"""P65: another user of the same machine reads nothing, reaches nothing and ends nothing of ours.

The other user is a forked child that gave up root: no account is needed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jupyter_process import Starter, light_python

from nbaas.config import Settings
from nbaas.deploy.client import deploy, gateway_address, host_token, token
from nbaas.deploy.control import runtime_folder
from nbaas.deploy.hosting import read_state, stop_host
from nbaas.engines.rendezvous import KeyValueServer
from nbaas.launchers.processes import tagged
from nbaas.launchers.sockets import socket_folder

STRANGER = 64_321  # a uid that no account has
pytestmark = [
    pytest.mark.ranks,
    pytest.mark.skipif(os.geteuid() != 0, reason="a second uid needs root"),
]


def as_stranger(action: Callable[[], Any], uid: int = STRANGER) -> Any:
    """Return what `action` returns (as JSON) in a child that runs as another user."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            told = json.dumps(action())
        except BaseException as failed:  # noqa: BLE001 - told to the parent
            told = json.dumps(f"FAILED {failed!r}")
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        told = stream.read()
    os.waitpid(pid, 0)
    return json.loads(told)


@dataclass(frozen=True, slots=True)
class Place:
    settings: Settings
    job: Any
    runtime: Path


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """A running job and a served model of root's, in a folder that everybody may look into."""
    import torch

    base = Path(tempfile.mkdtemp(prefix="nbaas-two-users-"))
    base.chmod(0o755)
    runtime = base / "run"
    runtime.mkdir(mode=0o700)
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    settings = Settings(home=base / "home", cache=base / "home")
    python = base / "python"
    python.mkdir()
    starter = Starter(settings.home, light_python(python))
    try:
        job = starter(
            "print('a secret line', flush=True)\nfor n in range(1, 100000): step(n, 0.02)"
        )
        deploy(settings, torch.nn.Linear(2, 2).eval(), name="private", example=torch.zeros(1, 2))
        yield Place(settings, job, runtime)
    finally:
        stop_host(settings)
        starter.clean()
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before
        shutil.rmtree(base)


def test_p65_another_user_can_open_no_file_and_list_no_folder(place):
    home = place.settings.home
    paths = [path for root in (home, place.runtime) for path in root.rglob("*")]
    assert {"spec.json", "events.jsonl", "manifest.json", "token"} <= {path.name for path in paths}

    def look() -> list[str]:
        found = []
        for path in paths:
            with contextlib.suppress(OSError):
                if path.is_dir():
                    found += [str(path)] if any(path.iterdir()) else []
                else:
                    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
                    found.append(str(path))
        return found

    assert as_stranger(look) == []


def test_p65_another_user_can_make_and_change_no_file(place):
    folders = [path for path in place.settings.home.rglob("*") if path.is_dir()]

    def write() -> list[str]:
        made = []
        for folder in [place.settings.home, *folders]:
            with contextlib.suppress(OSError):
                (folder / "planted").write_text("x")
                made.append(str(folder))
        return made

    assert as_stranger(write) == []


def processes(place: Place) -> dict[int, str]:
    """Return every process of the job and of the endpoint host."""
    state = read_state(place.settings)
    found = dict.fromkeys(tagged(place.job.id), "rank")
    found[place.job.history().supervisor[0]] = "supervisor"
    found[state["pid"]] = "host"
    for pid in map(int, filter(str.isdigit, (p.name for p in Path("/proc").iterdir()))):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            if str(place.settings.home).encode() in words:
                found.setdefault(pid, "part")
    return found


def test_p65_another_user_can_signal_no_process_and_read_no_environment(place):
    ours = processes(place)
    assert {"rank", "supervisor", "host"} <= set(ours.values())

    def reach() -> list[str]:
        reached = []
        for pid, what in ours.items():
            for number in (0, signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(PermissionError):
                    os.kill(pid, number)
                    reached.append(f"{what} {number}")
            for name in ("environ", "mem", "fd", "cwd"):
                with contextlib.suppress(PermissionError):
                    path = Path(f"/proc/{pid}/{name}")
                    any(path.iterdir()) if name in ("fd", "cwd") else path.open("rb").close()
                    reached.append(f"{what} {name}")
        return reached

    assert as_stranger(reach) == []
    assert place.job.status().state == "RUNNING"


def test_p65_what_another_user_sees_of_our_processes_holds_no_secret(place):
    secrets = [token(place.settings, "private"), host_token(place.settings)]
    pids = list(processes(place))

    def words() -> str:
        shown = []
        for pid in pids:
            with contextlib.suppress(OSError):
                shown.append(Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace"))
        return " ".join(shown)

    told = as_stranger(words)
    assert "nbaas" in told
    assert not [secret for secret in secrets if secret in told]


def sockets(place: Place) -> list[str]:
    found = [str(p) for p in place.runtime.rglob("*") if stat.S_ISSOCK(p.lstat().st_mode)]
    found += [str(p) for p in place.settings.home.rglob("*") if stat.S_ISSOCK(p.lstat().st_mode)]
    return found


def test_p65_another_user_reaches_no_socket(place):
    ours = sockets(place)
    assert len(ours) >= 2, ours  # the supervisor's and the host's

    def connect() -> list[str]:
        reached = []
        for path in ours:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                reached.append(path)
        return reached

    assert as_stranger(connect) == []


def test_p65_a_control_socket_answers_nobody_else_even_where_its_folder_is_open(place):
    """The second lock: the kernel says who is at the other end."""
    control = place.job.history().control
    host = read_state(place.settings)["control"]
    asks = {control: b'{"verb":"kill"}\n', host: b'{"op":"shutdown"}\n'}
    opened = {
        one for path in asks for one in (Path(path), *Path(path).parents) if place.runtime in
        (one, *one.parents)
    }  # fmt: skip
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in opened}

    def ask() -> list[str]:
        answers = []
        for path, line in asks.items():
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(5)
                client.connect(path)
                with contextlib.suppress(OSError):
                    client.sendall(line)
                    answers.append(client.recv(1000).decode())
        return answers

    for path in opened:
        path.chmod(0o777)
    try:
        answers = as_stranger(ask)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    assert isinstance(answers, list), answers
    assert not any('"ok": true' in text or '"ok":true' in text for text in answers), answers
    assert place.job.status().state == "RUNNING"
    assert read_state(place.settings) is not None


def test_p65_the_gateway_answers_nobody_without_a_token_though_it_is_on_loopback(place):
    address = gateway_address(place.settings)
    paths = ("/v2/models/private", "/v2/models/private/stats", "/v2/repository/index", "/metrics")

    def ask() -> dict[str, int]:
        statuses = {}
        for path in paths:
            connection = http.client.HTTPConnection(*address, timeout=10)
            connection.request("GET", path, headers={"Authorization": "Bearer guessed"})
            statuses[path] = connection.getresponse().status
            connection.close()
        return statuses

    assert set(as_stranger(ask).values()) == {401}


def test_p65_the_rendezvous_of_a_job_answers_nobody_else():
    with KeyValueServer() as store:

        def ask() -> int:
            connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=10)
            connection.request("PUT", "/scope/key", b"planted")
            return connection.getresponse().status

        assert as_stranger(ask) == 403
        connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=10)
        connection.request("GET", "/scope/key")
        assert connection.getresponse().status == 404


@pytest.mark.parametrize("folder_of", ["jobs", "endpoints"])
def test_p65_a_folder_for_sockets_that_another_user_made_first_is_refused(tmp_path, folder_of):
    victim = STRANGER + 1
    squatted = Path(f"/tmp/nbaas-{victim}")
    squatted.mkdir()
    os.chown(squatted, STRANGER, STRANGER)
    try:

        def use() -> str:
            os.environ.pop("XDG_RUNTIME_DIR", None)
            try:
                found = socket_folder() if folder_of == "jobs" else runtime_folder(Path("/tmp"))
            except PermissionError as refused:
                return f"refused: {refused}"
            return str(found)

        assert "belongs to someone else" in as_stranger(use, victim)
    finally:
        squatted.rmdir()
