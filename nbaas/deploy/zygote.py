"""A process with torch imported that forks replicas: ready in tens of milliseconds, their memory shared.

Run by the host as `python -m nbaas.deploy.zygote SOCKET LIFELINE PARENT`.  Rules: it is executed fresh,
runs no torch operation and starts no thread, for a child forked after OpenMP had begun would hang; it
says how many threads it has, and the host starts replicas itself where that is more than one.  A
replica is forked twice, so that the host, a subreaper, becomes its parent and outlives nothing.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

MAX_MESSAGE = 1 << 20
ADOPTION_TIMEOUT = 10.0  # seconds
EXIT_ORPHANED = 70


def main(argv: list[str]) -> None:
    number, lifeline, parent = map(int, argv[1:4])
    from nbaas.worker.guard import die_with_parent

    die_with_parent(parent)
    _preload()
    channel = socket.socket(fileno=number)
    threads = _threads()
    _send(channel, {"threads": threads})
    gc.collect()
    gc.freeze()  # pages that replicas share are not touched by their collector
    while threads == 1:
        data, fds, _, _ = socket.recv_fds(channel, MAX_MESSAGE, 4)
        if not data:
            return
        _send(channel, {"pid": _fork(channel, json.loads(data), list(fds), lifeline, parent)})
        for fd in fds:
            os.close(fd)


def _preload() -> None:
    """Import what every replica needs; nothing here computes."""
    import numpy as np  # noqa: F401
    import safetensors.torch  # noqa: F401
    import torch
    import torch.nn.functional  # noqa: F401

    import nbaas.deploy.answers
    import nbaas.deploy.plain
    import nbaas.deploy.replica
    import nbaas.deploy.runner  # noqa: F401


def _threads() -> int:
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:
        return 2  # not known: do not fork


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    channel.sendall(json.dumps(message).encode() + b"\n")


def _fork(
    channel: socket.socket, asked: dict[str, Any], fds: list[int], lifeline: int, parent: int
) -> int:
    """Return the pid of a new replica; `fds` are its ready pipe and its log."""
    reader, writer = os.pipe()
    between = os.fork()
    if between == 0:
        try:
            replica = os.fork()
            if replica:
                os.write(writer, str(replica).encode())
                os._exit(0)
            os.close(reader)
            os.close(writer)
            channel.close()
            _become_replica(asked, fds, lifeline, parent)
        except BaseException:  # noqa: BLE001 - a forked copy must never run the zygote's loop
            import traceback

            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        pid = int(pipe.read() or b"0")
    os.waitpid(between, 0)
    return pid


def _become_replica(asked: dict[str, Any], fds: list[int], lifeline: int, parent: int) -> None:
    """Be the replica in this forked process until it ends."""
    from nbaas.deploy.assignment import ReplicaSpec
    from nbaas.deploy.replica import serve_replica
    from nbaas.records import from_json
    from nbaas.worker.guard import die_with_parent, hold_lifeline

    os.setsid()
    deadline = time.monotonic() + ADOPTION_TIMEOUT
    while os.getppid() != parent:  # the process between is about to end
        if time.monotonic() > deadline:
            os._exit(EXIT_ORPHANED)
        time.sleep(0.0005)
    die_with_parent(parent)
    hold_lifeline(lifeline)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ready, log = fds
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    spec = from_json(ReplicaSpec, {**asked["spec"], "ready": ready, "lifeline": lifeline})
    gc.unfreeze()
    code = 1
    try:
        serve_replica(spec)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv)
