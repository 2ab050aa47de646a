"""Warm ranks: asks a process that has torch and the engine imported to fork them.

Rules: a zygote serves one user, one interpreter and one set of installed packages: what these are is
part of its address.  Wherever it does not answer, ranks are started afresh, only slower.  The zygote
is no rank's supervisor: a forked rank is tied to the supervisor by its lifeline and its tag alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbaas
from nbaas.config import Settings
from nbaas.launchers.environment import allowed_environment, search_path
from nbaas.launchers.local import LocalLauncher, RankProcess, RankStart
from nbaas.launchers.processes import TAG
from nbaas.launchers.sockets import socket_folder
from nbaas.records import JobPaths

DETACH = Path(__file__).with_name("detach.py")
BLANK_TAG = "-" * 24  # the length of a job's id; a forked rank writes its own into the same place
ANSWER_TIMEOUT = 15.0  # seconds: a zygote that was just started is still importing
EXIT_TIMEOUT = 1.0  # seconds between a rank's end and the zygote's word about it
MAX_MESSAGE = 1 << 17  # bytes
# What makes a process another one than the zygote was: read before Python or the libraries start.
DECISIVE = ("PYTHONPATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV", "CONDA_PREFIX")
PACKAGES = ("torch", "numpy", "horovod", "cloudpickle")


def address() -> Path:
    """Return where the zygote of this interpreter and these packages listens, or would listen."""
    parts = [sys.executable, sys.version, *(os.environ.get(name, "") for name in DECISIVE)]
    parts += _fingerprint()
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return socket_folder() / f"zygote-{digest}.sock"


def _fingerprint() -> Iterator[str]:
    """Yield what changes when nbaas or a package that the zygote imports is installed anew."""
    for source in sorted(Path(nbaas.__file__).parent.rglob("*.py")):
        yield f"{source} {source.stat().st_mtime_ns}"
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin:
            with contextlib.suppress(OSError):
                yield f"{spec.origin} {Path(spec.origin).stat().st_mtime_ns}"


def ensure(settings: Settings) -> Path:
    """Return the zygote's address; starts one in the background where none listens."""
    listens_at = address()
    if not is_listening(listens_at):
        _start(listens_at, settings)
    return listens_at


def is_listening(listens_at: Path) -> bool:
    with _connection() as client:
        try:
            client.connect(str(listens_at))
        except OSError:
            return False
        return True


def _start(listens_at: Path, settings: Settings) -> None:
    env = allowed_environment(os.environ)
    env |= {
        TAG: BLANK_TAG,
        "PYTHONPATH": search_path(env.get("PYTHONPATH", "")),
        "PYTHONHASHSEED": "0",
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        # Read when the libraries are loaded, and a pool of threads would not survive the fork;
        # each rank sets its own share.
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    arguments = (str(listens_at), settings.engine, str(settings.zygote_idle))
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    log = os.open(listens_at.with_suffix(".log"), flags, 0o600)
    try:
        subprocess.run(
            (
                *(sys.executable, "-I", "-S", str(DETACH)),
                *(sys.executable, "-P", "-m", "nbaas.launchers.forker", *arguments),
            ),
            env=env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            check=False,
        )
    finally:
        os.close(log)


class ZygoteLauncher:
    """Has ranks forked by the zygote at `listens_at`; by itself where that does not answer."""

    def __init__(self, listens_at: str) -> None:
        self._listens_at = listens_at
        self._cold = LocalLauncher()

    def start(self, rank: RankStart) -> RankProcess:
        if self._listens_at and len(rank.spec.id) == len(BLANK_TAG):
            with contextlib.suppress(OSError, ValueError, KeyError):
                return self._fork(rank)
            # Not asked again: one time-out is enough.
            self._listens_at = ""
        return self._cold.start(rank)

    def close(self) -> None:
        self._cold.close()

    def _fork(self, rank: RankStart) -> RankProcess:
        request = {
            "root": str(rank.paths.root),
            "rank": rank.slot.rank,
            "job": rank.spec.id,
            "env": rank.environment,
            "cwd": str(rank.cwd),
        }
        log_path = rank.paths.log(rank.slot.rank)
        log_path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        log = os.open(log_path, flags, 0o600)
        client = _connection()
        try:
            client.connect(self._listens_at)
            fds = [log, rank.lifeline, rank.report]
            socket.send_fds(client, [json.dumps(request).encode()], fds)
            data, passed, _, _ = socket.recv_fds(client, MAX_MESSAGE, 1)
            return ForkedRank(
                client, json.loads(data)["pid"], passed[0], rank.paths, rank.slot.rank
            )
        except BaseException:
            client.close()
            raise
        finally:
            os.close(log)


class ForkedRank:
    """A rank whose parent is the zygote, which tells its exit code over the connection."""

    def __init__(
        self, client: socket.socket, pid: int, pidfd: int, paths: JobPaths, rank: int
    ) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self._client = client
        self._exit_file = paths.exit_code(rank)
        self._code: int | None = None

    def exit_code(self) -> int | None:
        """Return the exit code, minus a signal's number; None while the rank runs."""
        if self._code is None and _has_ended(self.pidfd):
            self._code = self._asked()
        return self._code

    def _asked(self) -> int:
        """The zygote's word; without it the rank's own last one; else it was killed."""
        try:
            self._client.settimeout(EXIT_TIMEOUT)
            return int(json.loads(self._client.recv(MAX_MESSAGE))["code"])
        except (OSError, ValueError, KeyError):
            try:
                return int(self._exit_file.read_text())
            except (OSError, ValueError):
                return -signal.SIGKILL

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def close(self) -> None:
        self._client.close()
        os.close(self.pidfd)


def _has_ended(pidfd: int) -> bool:
    import select

    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def _connection() -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.settimeout(ANSWER_TIMEOUT)
    return client


def status(listens_at: Path) -> dict[str, Any] | None:
    """Return what a zygote says about itself: pid, modules imported, threads; None without one."""
    with _connection() as client:
        try:
            client.connect(str(listens_at))
            client.send(b'{"verb": "status"}')
            answer = json.loads(client.recv(MAX_MESSAGE))
        except (OSError, ValueError):
            return None
    return answer if isinstance(answer, dict) else None
