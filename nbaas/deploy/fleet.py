"""The replicas of one version: started together, each started again by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbaas.deploy.assignment import ReplicaSpec
from nbaas.deploy.children import Backoff, Child, first_line, log_tail
from nbaas.deploy.manifest import VersionManifest
from nbaas.deploy.nursery import Nursery
from nbaas.deploy.registry import Options
from nbaas.errors import DeployError, NbaasError, error_named

LEAST_QUEUE = 512  # requests; slow models refuse earlier, by the expected wait
DRAIN_GRACE = 5.0  # seconds between SIGTERM and SIGKILL


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the host gives every replica."""

    nursery: Nursery
    sockets: Path  # folder
    changed: Callable[[], None]  # a replica came or went: the table is due
    ready_timeout: float  # seconds


@dataclass(slots=True)
class Replica:
    """One place in a fleet; holds one process after another."""

    index: int
    socket: str = ""
    child: Child | None = None
    ready: bool = False
    max_batch: int = 1
    restarts: int = 0
    failure: NbaasError | None = None  # set: given up
    backoff: Backoff = field(default_factory=Backoff)


class Fleet:
    """The replicas that serve one version of one endpoint."""

    def __init__(
        self,
        name: str,
        version: int,
        folder: Path,
        manifest: VersionManifest,
        options: Options,
        log: Path,
        around: Surroundings,
    ) -> None:
        self.name = name
        self.version = version
        self.folder = folder
        self.manifest = manifest
        self.options = options
        self.log = log
        self.around = around
        self.replicas = [Replica(i) for i in range(max(1, options.replicas))]
        self.stopping = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Return when every replica can serve.  Raises: DeployError and BundleError: why one cannot."""
        results = await asyncio.gather(
            *(self._start(replica) for replica in self.replicas), return_exceptions=True
        )
        failed = [result for result in results if isinstance(result, BaseException)]
        if failed:
            await self.stop()
            raise failed[0]

    def revive(self) -> None:
        """Start every replica without waiting; failures are met with pauses, as a death is."""
        for replica in self.replicas:
            self._spawn_task(self._run(replica, first=True))

    async def _start(self, replica: Replica) -> None:
        await self._launch(replica)
        self.around.changed()

    async def _launch(self, replica: Replica) -> None:
        """Start a process in `replica`'s place and wait until it is ready."""
        ready, said = os.pipe()
        replica.socket = str(self.around.sockets / f"{secrets.token_hex(8)}.sock")
        try:
            child = await self.around.nursery.replica(
                self._spec(replica.socket, said),
                threads=self._threads(),
                log=self.log,
                on_exit=lambda ended: self._exited(replica, ended),
            )
        finally:
            os.close(said)
        replica.child = child
        try:
            async with asyncio.timeout(self.around.ready_timeout):
                message = await first_line(ready)
        except TimeoutError:
            child.send(signal.SIGKILL)
            limit = f"{self.around.ready_timeout:g} s"
            raise DeployError(f"{self.name} {self.version} was not ready within {limit}") from None
        if message is None or "error" in message:
            await child.exited.wait()
            raise self._reason(message, child)
        replica.max_batch = message["max_batch"]
        replica.ready = True

    def _spec(self, path: str, ready: int) -> ReplicaSpec:
        return ReplicaSpec(
            directory=str(self.folder),
            socket=path,
            version=str(self.version),
            name=self.name,
            ready=ready,
            lifeline=-1,  # whoever starts it knows
            parent=os.getpid(),
            max_batch=self.options.max_batch,
            max_wait=self.options.max_wait,
            max_body=self.options.max_body,
            device=self.options.device,
            engine=self.manifest.engine,
            threads=self._threads(),
        )

    def _threads(self) -> int:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return self.options.threads or max(1, (cores or 1) // len(self.replicas))

    def _reason(self, message: dict[str, Any] | None, child: Child) -> NbaasError:
        if message is not None:
            return error_named(message["kind"], message["error"], message.get("hint", ""))
        code = child.code or 0
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        tail = log_tail(self.log)
        return DeployError(
            f"{self.name} {self.version} ended before it was ready ({ended})"
            + (f": {tail}" if tail else ""),
            hint=f"its log: {self.log}",
        )

    def _exited(self, replica: Replica, child: Child) -> None:
        if replica.child is not child:
            return
        was_ready, replica.ready = replica.ready, False
        _forget(replica.socket)
        if was_ready and not self.stopping:
            self.around.changed()
            self._spawn_task(self._run(replica, first=False))

    async def _run(self, replica: Replica, *, first: bool) -> None:
        """Bring a replica back: pause, start, and again while it does not become ready."""
        was_ready = not first
        pause: float | None = (
            0.0 if first else replica.backoff.pause(time.monotonic(), was_ready=True)
        )
        while not self.stopping and pause is not None:
            await asyncio.sleep(pause)
            try:
                await self._launch(replica)
            except NbaasError as failed:
                replica.failure = failed
                was_ready = False
                pause = replica.backoff.pause(time.monotonic(), was_ready=was_ready)
                continue
            replica.failure = None
            replica.restarts += not first
            self.around.changed()
            return

    def _spawn_task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End every replica; what they have in work is answered first."""
        self.stopping = True
        for task in list(self._tasks):
            task.cancel()
        children = [r.child for r in self.replicas if r.child is not None and r.child.code is None]
        await asyncio.gather(*(child.end(DRAIN_GRACE) for child in children))
        for replica in self.replicas:
            _forget(replica.socket)

    @property
    def ready(self) -> int:
        return sum(replica.ready for replica in self.replicas)

    def reason(self) -> str:
        """Return why a replica is not there; empty where all are."""
        return next((str(r.failure) for r in self.replicas if r.failure is not None), "")

    def sockets(self) -> list[str]:
        return [replica.socket for replica in self.replicas if replica.ready]

    def described(self) -> dict[str, Any]:
        """Return this version's entry in the gateway's table."""
        replicas = [{"path": r.socket, "credits": r.max_batch} for r in self.replicas if r.ready]
        largest = max((r.max_batch for r in self.replicas), default=1)
        return {
            "replicas": replicas,
            "queue": self.options.queue or max(LEAST_QUEUE, 4 * largest * len(self.replicas)),
            "timeout": self.options.timeout,
            "metadata": self.metadata(),
        }

    def metadata(self) -> dict[str, Any]:
        """Return the model's metadata as Open Inference gives it."""
        signature = self.manifest.signature
        return {
            "name": self.name,
            "versions": [str(self.version)],
            "platform": "onnx_onnxv1" if self.manifest.engine == "onnx" else "pytorch_nbaas",
            "inputs": [_tensor(spec) for spec in signature.inputs],
            "outputs": [_tensor(spec) for spec in signature.outputs],
        }


def _forget(path: str) -> None:
    with contextlib.suppress(OSError):
        Path(path).unlink()


def _tensor(spec: Any) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
