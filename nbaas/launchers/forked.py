"""Warm ranks: asks a process that has torch and the engine imported to fork them.

Rules: wherever no zygote answers, ranks are started afresh, only slower.  The zygote is no rank's
supervisor: a forked rank is tied to the supervisor by its lifeline and its tag alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
from pathlib import Path

from nbaas.launchers.local import LocalLauncher, OnThisHost, RankProcess, RankStart
from nbaas.launchers.processes import is_stopped
from nbaas.launchers.sockets import peer
from nbaas.records import JobPaths

BLANK_TAG = "-" * 24  # the length of a job's id; a forked rank writes its own into the same place
ANSWER_TIMEOUT = 15.0  # seconds: a zygote that was just started is still importing
READY_TIMEOUT = 2.0  # seconds for one that has imported everything: cold is faster then
EXIT_TIMEOUT = 1.0  # seconds between a rank's end and the zygote's word about it
MAX_MESSAGE = 1 << 17  # bytes


class ZygoteLauncher(OnThisHost):
    """Has ranks forked by the zygote at `listens_at`; by itself where that does not answer."""

    def __init__(self, listens_at: str) -> None:
        super().__init__()
        self._listens_at = listens_at
        self._cold = LocalLauncher()
        self.children = self._cold.children

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
        client = connection()
        try:
            client.connect(self._listens_at)
            client.settimeout(patience(client, Path(self._listens_at)))
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
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def ready_mark(listens_at: Path) -> Path:
    """Return the file that is there while a zygote has everything imported."""
    return listens_at.with_suffix(".ready")


def patience(client: socket.socket, listens_at: Path) -> float:
    """Return how long to wait for an answer, seconds; raises OSError for a zygote that is stopped."""
    pid = peer(client)
    if is_stopped(pid):
        raise OSError(f"the zygote {pid} is stopped")
    return READY_TIMEOUT if ready_mark(listens_at).exists() else ANSWER_TIMEOUT


def connection() -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.settimeout(ANSWER_TIMEOUT)
    return client
