"""A process that has imported torch, run none of it, and forks a fresh process per run.

Reads one JSON request a line on stdin, answers {"pid": ...} at once and {"pid":, "status":} when
that child has ended.  Started by harness.py; ends when its stdin closes.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import sys
from typing import Any, TextIO

PRELOADED = (
    "torch", "torch.distributed", "torch.utils.data", "torch.optim", "torch._dynamo", "torch.func",
    "torch.nn.utils.rnn", "numpy", "nbaas.engines.base", "nbaas.engines.ddp", "nbaas.engines.serial",
    "nbaas.parallel", "sklearn.metrics", "sklearn.model_selection", "sklearn.datasets", "tqdm.auto",
    "rank",
)  # fmt: skip


def main() -> None:
    requests, replies = take_pipes()
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    reply(replies, {"ready": os.getpid()})
    serve(requests, replies, woken)


def take_pipes() -> tuple[int, TextIO]:
    """Return stdin and stdout as own descriptors, so that no child prints into the protocol."""
    requests = os.dup(0)
    replies = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    for fd in (requests, replies.fileno()):
        os.set_inheritable(fd, False)
    return requests, replies


def serve(requests: int, replies: TextIO, woken: int) -> None:
    buffer = b""
    while True:
        ready, _, _ = select.select([requests, woken], [], [])
        if woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(woken, 4096)
            reap(replies)
        if requests in ready:
            chunk = os.read(requests, 1 << 16)
            if not chunk:
                return
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                reply(replies, {"pid": fork(json.loads(line), requests, replies)})


def fork(request: dict[str, Any], requests: int, replies: TextIO) -> int:
    """Return the pid of a child that runs the request; what it needs is imported once, here."""
    os.environ.update(request["case_env"])
    for name in request["needs"]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(requests)
        os.close(replies.fileno())
        import rank

        code = rank.main(request)
    except BaseException:  # noqa: BLE001 - the child of a fork never returns into the server's loop
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def reap(replies: TextIO) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        reply(replies, {"pid": pid, "status": os.waitstatus_to_exitcode(status)})


def reply(replies: TextIO, message: dict[str, Any]) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
