"""Processes of a job: started with an environment of their own, found by tag, ended for good.

Rules: the environment goes through execve, never onto a command line.  A process is signalled by
its pidfd, so that a number the kernel has given to a stranger is never hit.  Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

TAG = "NBAAS_JOB"  # in the environment of every process of a job
PR_SET_CHILD_SUBREAPER = 36
STAT_START_TIME = 19  # field 22 of /proc/<pid>/stat, counted after the command's name


@dataclass(frozen=True, slots=True)
class Command:
    """A program to start: `log` takes its output, `keep` are file descriptors it inherits."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    log: Path
    keep: tuple[int, ...] = ()


class Process:
    """A child of ours; its `pidfd` is readable once it has ended."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self.pid = child.pid
        self.pidfd = os.pidfd_open(child.pid)

    def exit_code(self) -> int | None:
        """Return the exit code, minus the signal's number where one ended it; None while it runs."""
        return self._child.poll()

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def close(self) -> None:
        os.close(self.pidfd)


def spawn(command: Command) -> Process:
    """Return the started process, leader of a session of its own.

    Called from the main thread: PR_SET_PDEATHSIG follows the thread that forks.
    """
    command.log.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    log = os.open(command.log, flags, 0o600)
    try:
        child = subprocess.Popen(
            command.argv,
            env=dict(command.env),
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=command.keep,
            # Ctrl-C in a kernel's terminal must not reach a job that outlives the kernel.
            start_new_session=True,
        )
    finally:
        os.close(log)
    return Process(child)


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return int(stat.rpartition(")")[2].split()[STAT_START_TIME])
    except (OSError, ValueError, IndexError):
        return 0


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped by a signal (SIGSTOP, a debugger)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False


def boot_id() -> str:
    """Return what tells one boot of this machine from the next."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def become_subreaper() -> None:
    """Adopt every descendant whose own parent ends, so that `reap` sees it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(known: Collection[int]) -> None:
    """Collect adopted children that have ended; those in `known` are left to their owner."""
    with contextlib.suppress(ChildProcessError):
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid in known:
                return
            os.waitpid(ended.si_pid, os.WNOHANG)


def tagged(job_id: str) -> Iterator[int]:
    """Yield the processes of a job on this host: own user, tag in the environment, not a zombie."""
    for entry in os.scandir("/proc") if sys.platform == "linux" else ():
        if entry.name.isdigit() and _has_tag(entry.path, job_id):
            yield int(entry.name)


def kill_tagged(job_id: str, *, timeout: float = 2.0) -> int:
    """SIGKILL every process of a job until none is left; returns how many were ended."""
    ended = 0
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        fds = [fd for pid in tagged(job_id) if (fd := _kill(pid, job_id)) is not None]
        if not fds:
            break
        ended += len(fds)
        _await(fds, deadline)
    return ended


def _kill(pid: int, job_id: str) -> int | None:
    """Return the pidfd of the process that was killed; None where it is gone or another's."""
    if pid == os.getpid():
        return None
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return None
    # The number may have been given away between the scan and the open: look again.
    if _has_tag(f"/proc/{pid}", job_id):
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            return fd
    os.close(fd)
    return None


def _await(fds: list[int], deadline: float) -> None:
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    waiting = set(fds)
    while waiting and (left := deadline - time.monotonic()) > 0:
        for fd, _ in poller.poll(left * 1000):
            poller.unregister(fd)
            waiting.discard(fd)
    for fd in fds:
        os.close(fd)


def _has_tag(folder: str, job_id: str) -> bool:
    try:
        if os.stat(folder).st_uid != os.getuid():  # noqa: PTH116 - a hot loop over /proc
            return False
        with open(f"{folder}/environ", "rb") as file:  # noqa: PTH123
            environ = file.read()
    except OSError:
        return False
    # A zombie's environment reads as empty.
    return f"{TAG}={job_id}".encode() in environ.split(b"\0")
