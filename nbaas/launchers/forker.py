"""The zygote's own process: imports what ranks need, runs no torch operation, forks on request.

Rules: one thread, always: a fork copies only the thread that forks, and a pool of OpenMP threads that
an operation had made would hang the child.  CUDA is never touched.  A child leaves through `os._exit`.
`python -P -m nbaas.launchers.forker SOCKET ENGINE IDLE_SECONDS`
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from nbaas.launchers.forked import MAX_MESSAGE, ready_mark
from nbaas.launchers.processes import TAG
from nbaas.launchers.sockets import same_user
from nbaas.launchers.warm import import_what_ranks_need, set_blas_threads
from nbaas.records import JobPaths
from nbaas.worker.guard import hold_lifeline

FDS = 3  # log, lifeline, report


class Forker:
    """Accepts connections of supervisors: one connection is one rank."""

    def __init__(self, listener: socket.socket, lock: int, idle: float, tag_at: int) -> None:
        self._listener = listener
        self._lock = lock
        self._idle = idle
        self._tag_at = tag_at
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._clients: set[socket.socket] = set()
        self._children: dict[int, tuple[int, socket.socket]] = {}  # pidfd -> pid, connection
        self._used = time.monotonic()

    def serve(self) -> None:
        """Return after `idle` seconds without a request and without a child."""
        while self._children or time.monotonic() - self._used < self._idle:
            for key, _ in self._selector.select(self._idle):
                key.data()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if not same_user(client):
            client.close()
            return
        self._clients.add(client)
        self._selector.register(client, selectors.EVENT_READ, lambda: self._read(client))

    def _read(self, client: socket.socket) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(client, MAX_MESSAGE, FDS)
        except OSError:
            data, fds = b"", []
        try:
            request = json.loads(data) if data else {}
            if request.get("verb") == "status":
                # Who asked may have given up meanwhile: the imports took long.
                with contextlib.suppress(OSError):
                    client.send(json.dumps(self._status()).encode())
            elif len(fds) == FDS:
                self._used = time.monotonic()
                self._fork(client, request, fds)
                return
            self._forget(client)
        finally:
            for fd in fds:
                os.close(fd)

    def _fork(self, client: socket.socket, request: dict[str, Any], fds: list[int]) -> None:
        pid = os.fork()
        if pid == 0:
            self._become_rank(request, fds)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = (pid, client)
        self._selector.register(pidfd, selectors.EVENT_READ, lambda: self._collect(pidfd))
        # From here on readable only by its hang-up.
        self._selector.modify(client, selectors.EVENT_READ, lambda: self._hung_up(client))
        try:
            socket.send_fds(client, [json.dumps({"pid": pid}).encode()], [pidfd])
        except OSError:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def _collect(self, pidfd: int) -> None:
        pid, client = self._children.pop(pidfd)
        self._selector.unregister(pidfd)
        _, status = os.waitpid(pid, 0)
        os.close(pidfd)
        if client in self._clients:
            code = os.waitstatus_to_exitcode(status)
            with contextlib.suppress(OSError):
                client.send(json.dumps({"code": code}).encode())
            self._forget(client)
        self._used = time.monotonic()

    def _hung_up(self, client: socket.socket) -> None:
        """The supervisor is gone, or done with the rank; the lifeline sees to the rank itself."""
        self._forget(client)

    def _forget(self, client: socket.socket) -> None:
        if client in self._clients:
            self._clients.remove(client)
            self._selector.unregister(client)
            client.close()

    def _status(self) -> dict[str, Any]:
        torch = sys.modules.get("torch")
        return {
            "pid": os.getpid(),
            "threads": len(os.listdir("/proc/self/task")),  # noqa: PTH208 - names are enough
            "children": [pid for pid, _ in self._children.values()],
            "cuda": bool(torch is not None and torch.cuda.is_initialized()),
            "modules": len(sys.modules),
        }

    def _become_rank(self, request: dict[str, Any], fds: list[int]) -> None:
        """Run the rank in this child; does not return."""
        code = 1
        try:
            log, lifeline, report = fds
            hold_lifeline(lifeline)
            os.setsid()
            for standard in (1, 2):
                os.dup2(log, standard)
            os.close(log)
            self._close_all()
            self._take_environment(request)
            from nbaas.worker.rank import leave, start

            set_blas_threads(int(request["env"].get("OPENBLAS_NUM_THREADS", "1")))
            root = Path(request["root"])
            code = start(root, int(request["rank"]), report)
            leave(code, JobPaths(root).exit_code(int(request["rank"])))
        except BaseException:  # noqa: BLE001 - a child that came back would be a second zygote
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _close_all(self) -> None:
        """Close what belongs to the zygote and to other ranks."""
        self._selector.close()
        self._listener.close()
        os.close(self._lock)
        for client in self._clients:
            client.close()
        for pidfd in self._children:
            os.close(pidfd)

    def _take_environment(self, request: dict[str, Any]) -> None:
        # The environment as /proc shows it is the memory the zygote was started with: the tag by
        # which a job's processes are found is written over the blank one there.
        if self._tag_at:
            tag = str(request["job"]).encode()
            ctypes.memmove(self._tag_at, tag, len(tag))
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def address_of_tag() -> int:
    """Return where the blank tag lies in this process's first environment; 0 where it does not."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    return int(getenv(TAG.encode()) or 0)


def main(argv: list[str]) -> None:
    """Listen at once, so that early supervisors wait instead of starting cold, then import."""
    listens_at, engine, idle = Path(argv[1]), argv[2], float(argv[3])
    lock = os.open(listens_at.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    tag_at = address_of_tag()
    ready = ready_mark(listens_at)
    for left in (listens_at, ready):
        left.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    listener.bind(str(listens_at))
    listens_at.chmod(0o600)
    listener.listen(64)
    try:
        import_what_ranks_need(engine)
        # Collecting would write to every page that the children share with us.
        gc.collect()
        gc.freeze()
        ready.touch(0o600)
        Forker(listener, lock, idle, tag_at).serve()
    finally:
        for left in (ready, listens_at):
            left.unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv)
