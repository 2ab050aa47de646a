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
    failure: NbaasError | None = None  # of the last start, until one succeeds
    pausing: bool = False  # before it is started once more
    given_up: bool = False
    leaving: bool = False  # it is to end, and not to be started again
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
        self.least = max(1, options.replicas)
        self.most = max(self.least, options.most)
        self.replicas = [Replica(i) for i in range(self.least)]
        self.credits = 1  # requests that one replica takes at a time, once one has told
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
                self._spec(replica, said),
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
        replica.max_batch = self.credits = message["max_batch"]
        replica.ready = True

    def _spec(self, replica: Replica, ready: int) -> ReplicaSpec:
        return ReplicaSpec(
            directory=str(self.folder),
            socket=replica.socket,
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
            index=replica.index,
        )

    def _threads(self) -> int:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return self.options.threads or max(1, (cores or 1) // self.most)

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
        if was_ready and not self.stopping and not replica.leaving:
            self.around.changed()
            self._spawn_task(self._run(replica, first=False))

    async def _run(self, replica: Replica, *, first: bool) -> None:
        """Bring a replica back: pause, start, and again while it does not become ready."""
        pause: float | None = (
            0.0 if first else replica.backoff.pause(time.monotonic(), was_ready=True)
        )
        while pause is not None and self._wanted(replica):
            replica.pausing = pause > 0
            await asyncio.sleep(pause)
            replica.pausing = False
            if not self._wanted(replica):
                return
            try:
                await self._launch(replica)
            except (NbaasError, OSError) as failed:
                replica.failure = failed if isinstance(failed, NbaasError) else _unstarted(failed)
                pause = replica.backoff.pause(time.monotonic(), was_ready=False)
                continue
            replica.failure = None
            replica.restarts += not first
            self.around.changed()
            return
        if pause is None:
            replica.given_up = True
            self.around.changed()

    def _wanted(self, replica: Replica) -> bool:
        return not (self.stopping or replica.leaving)

    def _spawn_task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------ more and fewer

    @property
    def scales(self) -> bool:
        return self.most > self.least or self.options.idle > 0

    def grow(self, count: int) -> None:
        """Start replicas until there are `count`; each serves once it is ready."""
        while len(self.replicas) < count and not self.stopping:
            taken = {replica.index for replica in self.replicas}
            added = Replica(next(i for i in range(count) if i not in taken))
            self.replicas.append(added)
            self._spawn_task(self._run(added, first=True))

    def let_go(self, count: int) -> list[Replica]:
        """Take replicas out until there are `count`, those that do not serve first; return them."""
        ordered = sorted(self.replicas, key=lambda replica: (not replica.ready, -replica.index))
        leaving, self.replicas = ordered[count:], ordered[:count]
        for replica in leaving:
            replica.leaving = True
        return leaving

    async def stop(self) -> None:
        """End every replica; what they have in work is answered first."""
        self.stopping = True
        for task in list(self._tasks):
            task.cancel()
        await end_replicas(self.replicas)

    @property
    def ready(self) -> int:
        return sum(replica.ready for replica in self.replicas)

    def reason(self) -> str:
        """Return why a replica is not there; empty where all are."""
        return next((str(r.failure) for r in self.replicas if r.failure is not None), "")

    @property
    def asleep(self) -> bool:
        """Whether it has no replica because nobody asked for long; the next request starts one."""
        return not self.replicas

    def state(self) -> str:
        """Return IDLE, READY, STARTING, BACKOFF (before it is started again), or FAILED (given up)."""
        if self.asleep:
            return "IDLE"
        if self.ready:
            return "READY"
        if all(replica.given_up for replica in self.replicas):
            return "FAILED"
        return "BACKOFF" if any(replica.pausing for replica in self.replicas) else "STARTING"

    def sockets(self) -> list[str]:
        return [replica.socket for replica in self.replicas if replica.ready]

    def described(self) -> dict[str, Any]:
        """Return this version's entry in the gateway's table."""
        replicas = [{"path": r.socket, "credits": r.max_batch} for r in self.replicas if r.ready]
        largest = max((r.max_batch for r in self.replicas), default=self.credits)
        return {
            "replicas": replicas,
            "queue": self.options.queue or max(LEAST_QUEUE, 4 * largest * self.most),
            "timeout": self.options.timeout,
            "streams": self.manifest.streams,
            "items": self.options.max_items,
            "asleep": self.asleep,
            "failed": self.reason() if self.state() == "FAILED" else "",
            "metadata": self.metadata(),
        }

    def metadata(self) -> dict[str, Any]:
        """Return the model's metadata as Open Inference gives it."""
        signature = self.manifest.signature
        return {
            "name": self.name,
            "versions": [str(self.version)],
            **({"streams": True} if self.manifest.streams else {}),
            "platform": "onnx_onnxv1" if self.manifest.engine == "onnx" else "pytorch_nbaas",
            "inputs": [_tensor(spec) for spec in signature.inputs],
            "outputs": [_tensor(spec) for spec in signature.outputs],
        }


async def end_replicas(replicas: list[Replica]) -> None:
    """End the processes of replicas; what they have in work is answered first."""
    children = [r.child for r in replicas if r.child is not None and r.child.code is None]
    await asyncio.gather(*(child.end(DRAIN_GRACE) for child in children))
    for replica in replicas:
        _forget(replica.socket)


def _unstarted(lost: OSError) -> DeployError:
    return DeployError(f"no process could be started: {lost}", hint="nbaas doctor")


def _forget(path: str) -> None:
    with contextlib.suppress(OSError):
        Path(path).unlink()


def _tensor(spec: Any) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
