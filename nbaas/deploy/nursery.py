"""How the host gets a replica process: forked from the zygote where that is possible, else executed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbaas.deploy.assignment import ReplicaSpec
from nbaas.deploy.children import Child, rotate, start_child
from nbaas.records import to_json

FORK_TIMEOUT = 10.0  # seconds
IMPORT_TIMEOUT = 60.0


class Adopted:
    """A grandchild that the host has adopted; speaks as launchers' Process does."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self._code: int | None = None

    def exit_code(self) -> int | None:
        """Return the exit code, minus the signal's number where one ended it; None while it runs."""
        if self._code is None:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def close(self) -> None:
        os.close(self.pidfd)


class Nursery:
    """Starts replicas; keeps a zygote at hand, and does without where it cannot fork safely."""

    def __init__(self, environment: Mapping[str, str], log: Path, lifeline: int) -> None:
        self.environment = environment
        self.log = log
        self.lifeline = lifeline
        self.usable = hasattr(os, "pidfd_open") and hasattr(socket, "recv_fds")
        self._child: Child | None = None
        self._channel: socket.socket | None = None
        self._stream: asyncio.StreamReader | None = None
        self._turn = asyncio.Lock()

    async def warm(self) -> None:
        """Start the zygote; returns when it has imported torch, or has turned out of no use."""
        async with self._turn:
            await self._ensure()

    async def _ensure(self) -> bool:
        if not self.usable:
            return False
        if self._channel is not None:
            return True
        ours, theirs = socket.socketpair()
        ours.setblocking(False)  # noqa: FBT003 - positional only
        numbers = (theirs.fileno(), self.lifeline, os.getpid())
        self._child = start_child(
            "nbaas.deploy.zygote",
            [str(number) for number in numbers],
            env={**self.environment, "OMP_NUM_THREADS": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
            log=self.log,
            keep=numbers[:2],
            on_exit=lambda _code: self._gone(ours),
        )
        theirs.close()
        self._channel = ours
        answered = await self._answer(ours, IMPORT_TIMEOUT)
        self.usable = answered is not None and answered.get("threads") == 1
        if not self.usable:
            self._child.send(signal.SIGKILL)
        return self.usable

    def _gone(self, channel: socket.socket) -> None:
        if self._channel is channel:
            self._channel = None
        channel.close()

    async def _answer(self, channel: socket.socket, timeout: float) -> dict[str, Any] | None:  # noqa: ASYNC109
        loop = asyncio.get_running_loop()
        received = b""
        try:
            async with asyncio.timeout(timeout):
                while not received.endswith(b"\n"):
                    data = await loop.sock_recv(channel, 4096)
                    if not data:
                        return None
                    received += data
        except (TimeoutError, OSError, ValueError):
            return None
        answered: dict[str, Any] = json.loads(received)
        return answered

    async def replica(
        self, spec: ReplicaSpec, *, threads: int, log: Path, on_exit: Callable[[Child], None]
    ) -> Child:
        """Return the process of a new replica; its ready pipe is `spec.ready`."""
        # ONNX Runtime needs no torch: a process of its own is a third of the size.
        child = await self._forked(spec, log, on_exit) if spec.engine == "torch" else None
        return child or self._executed(spec, threads, log, on_exit)

    async def _forked(
        self, spec: ReplicaSpec, log: Path, on_exit: Callable[[Child], None]
    ) -> Child | None:
        async with self._turn:
            if not await self._ensure() or self._channel is None:
                return None
            channel = self._channel
            rotate(log)
            output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                message = json.dumps({"spec": to_json(spec)}).encode()
                socket.send_fds(channel, [message], [spec.ready, output])
                answered = await self._answer(channel, FORK_TIMEOUT)
            except OSError:
                return None
            finally:
                os.close(output)
        if not answered or not answered.get("pid"):
            return None
        return _watched(Adopted(answered["pid"]), on_exit)

    def _executed(
        self, spec: ReplicaSpec, threads: int, log: Path, on_exit: Callable[[Child], None]
    ) -> Child:
        holder: list[Child] = []
        child = start_child(
            "nbaas.deploy.replica",
            [json.dumps(to_json(replace(spec, lifeline=self.lifeline)))],
            env={**self.environment, "OMP_NUM_THREADS": str(threads)},
            log=log,
            keep=(spec.ready, self.lifeline),
            on_exit=lambda _code: on_exit(holder[0]),
        )
        holder.append(child)
        return child

    async def stop(self) -> None:
        self.usable = False
        if self._child is not None:
            self._child.send(signal.SIGKILL)
            await self._child.exited.wait()


def _watched(process: Adopted, on_exit: Callable[[Child], None]) -> Child:
    holder: list[Child] = []
    child = Child(process, lambda _code: on_exit(holder[0]))
    holder.append(child)
    return child
