"""The endpoint host: one detached process per user that owns the versions and the children.

It starts the gateway and the replicas, and starts them again; it alone writes the journals of the
endpoints.  A version takes over only after all its replicas have given the golden answer; then the
old ones are drained.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import nbaas
from nbaas.config import Settings
from nbaas.deploy.canaries import watch_canaries
from nbaas.deploy.fleet import Fleet, Replica, Surroundings, end_replicas
from nbaas.deploy.front import Front
from nbaas.deploy.ledger import Ledger
from nbaas.deploy.nursery import Nursery
from nbaas.deploy.operations import OPERATIONS
from nbaas.deploy.registry import (
    Canary,
    EndpointRecord,
    Options,
    checked_name,
    endpoint_paths,
    read_version,
    version_folder,
    write_secret,
)
from nbaas.deploy.scaling import watch_load
from nbaas.deploy.tls import Tls
from nbaas.errors import DeployError, NbaasError
from nbaas.launchers.environment import allowed_environment
from nbaas.records import to_json

HOST_FOLDER = "_host"
DRAIN_TIMEOUT = 30.0  # seconds for requests in flight on a version that was replaced
STOP_GRACE = 10.0


def host_folder(settings: Settings) -> Path:
    return settings.endpoints / HOST_FOLDER


def state_path(settings: Settings) -> Path:
    """Where the host writes its pid, port and control socket; 0600."""
    return host_folder(settings) / "state.json"


class Host:
    """The endpoints of one user; every method runs in the one event loop."""

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        sockets: Path,
        secure: tuple[socket.socket, Tls] | None = None,
    ) -> None:
        self.settings = settings
        self.token = secrets.token_urlsafe(32)
        self.ledger = Ledger(settings.endpoints)
        self.fleets: dict[tuple[str, int], Fleet] = {}
        self.stopped = asyncio.Event()
        self._busy: dict[str, asyncio.Lock] = {}
        self._drained: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        lifeline, self._alive = os.pipe()
        environment = allowed_environment(os.environ) | {"PYTHONPATH": search_path()}
        logs = host_folder(settings)
        self.nursery = Nursery(environment, logs / "zygote.log", lifeline)
        self.around = Surroundings(self.nursery, sockets, self._changed, settings.start_timeout)
        self.front = Front(
            listener, environment, logs / "gateway.log", lifeline, self.table,
            self._on_drained, self._on_wake, secure,
        )  # fmt: skip

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Bring back what the journals say is served, then open the door."""
        write_secret(host_folder(self.settings) / "token", self.token)
        self._spawn_task(self.nursery.warm())
        for record in self.ledger.records.values():
            beside = [share.version for share in (record.canary, record.shadow) if share]
            for version in dict.fromkeys([record.current, *beside]):
                self._revive(record, version)
        await self.front.start()
        self._spawn_task(watch_canaries(self))
        self._spawn_task(watch_load(self))

    def _revive(self, record: EndpointRecord, version: int) -> None:
        try:
            fleet = self.new_fleet(record.name, version, record.options)
        except NbaasError as lost:
            print(f"{record.name} {version} cannot be served: {lost}", file=sys.stderr)  # noqa: T201
            return
        self.fleets[record.name, version] = fleet
        fleet.revive()

    def new_fleet(self, name: str, version: int, options: Options) -> Fleet:
        """Return the replicas of a published version, not started."""
        endpoints = self.settings.endpoints
        folder = version_folder(endpoints, name, version)
        manifest = read_version(endpoints, name, version)
        log = endpoint_paths(endpoints, name).log(f"v{version}")
        return Fleet(name, version, folder, manifest, options, log, self.around)

    async def stop(self) -> None:
        """Answer what is in flight and end every child."""
        await self.front.stop(STOP_GRACE)
        await asyncio.gather(*(fleet.stop() for fleet in self.fleets.values()))
        await self.nursery.stop()

    @property
    def occupied(self) -> bool:
        """Whether something is being asked of an endpoint right now."""
        return any(lock.locked() for lock in self._busy.values())

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to one request on the control socket; one at a time for an endpoint."""
        operation = OPERATIONS.get(str(request.get("op")))
        if operation is None:
            raise DeployError(f"the host knows no {request.get('op')!r}")
        if "name" not in request:
            return await operation(self, request)
        async with self.turn(request["name"]):
            return await operation(self, request)

    def turn(self, name: str) -> asyncio.Lock:
        """Return the lock that is held while something is done to an endpoint."""
        return self._busy.setdefault(checked_name(name), asyncio.Lock())

    # ------------------------------------------------------------ the table

    def table(self) -> dict[str, Any]:
        """Return the routes as the gateway is to serve them now."""
        return {
            "token": hashlib.sha256(self.token.encode()).hexdigest(),
            "endpoints": {name: self._entry(r) for name, r in self.ledger.records.items()},
        }

    def _entry(self, record: EndpointRecord) -> dict[str, Any]:
        versions = {
            str(number): fleet.described()
            for (name, number), fleet in self.fleets.items()
            if name == record.name
        }
        return {
            "current": str(record.current),
            "versions": versions,
            "max_body": record.options.max_body,
            "tokens": [
                {"hash": t.hash, "expires": t.expires, "rate": t.rate or record.options.rate}
                for t in record.tokens
            ],
            "cors": record.options.cors,
            "canary": to_json(record.canary) if record.canary else None,
            "shadow": to_json(record.shadow) if record.shadow else None,
        }

    def _changed(self) -> None:
        """Tell the gateway soon: a replica came or went."""
        self._spawn_task(self.front.push())

    def _on_drained(self, path: str) -> None:
        if path in self._drained:
            self._drained[path].set()

    def _on_wake(self, name: str, version: int) -> None:
        """Start the replicas of a version that was asleep: a request waits for them."""
        fleet = self.fleets.get((name, version))
        if fleet is not None and fleet.asleep:
            fleet.grow(fleet.least)
            self._changed()

    def resize(self, fleet: Fleet, count: int) -> None:
        """Give a fleet `count` replicas; those that go answer first what they have in flight."""
        fleet.grow(count)
        if leaving := fleet.let_go(count):
            self._spawn_task(self._part(leaving))

    async def _part(self, leaving: list[Replica]) -> None:
        paths = [replica.socket for replica in leaving if replica.ready]
        events = [self._drained.setdefault(path, asyncio.Event()) for path in paths]
        await self.front.push()
        await self._until_drained(paths, events)
        await end_replicas(leaving)

    def _spawn_task(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------ versions in and out

    async def take_over(self, name: str, fleet: Fleet, options: Options) -> None:
        """Make a started fleet the current version; what it replaces is drained."""
        before = self.ledger.records.get(name)
        event = {"event": "current", "version": fleet.version, "options": to_json(options)}
        self.ledger.note(name, event)
        self.ledger.ensure_token(name)
        self.fleets[name, fleet.version] = fleet
        replaced = self._unused(name, [before.current]) if before else []
        await self.withdraw(replaced)

    async def share(
        self,
        name: str,
        fleet: Fleet | None,
        share: Canary | None,
        *,
        shadow: bool = False,
        notice: str = "",
    ) -> None:
        """Give a started fleet a share of the requests, or copies of them; None takes it away."""
        record = self.ledger.records[name]
        before = record.shadow if shadow else record.canary
        event = to_json(share) if share else {"version": 0, "percent": 0.0}
        kind = "shadow" if shadow else "canary"
        self.ledger.note(name, {"event": kind, **event, "notice": notice})
        if fleet is not None:
            self.fleets[name, fleet.version] = fleet
        await self.withdraw(self._unused(name, [before.version] if before else []))

    async def withdraw_canary(self, name: str, version: int, why: str) -> None:
        """Withdraw a canary by the host's own decision, unless it has changed meanwhile."""
        async with self.turn(name):
            record = self.ledger.records.get(name)
            if record and record.canary and record.canary.version == version:
                await self.share(name, None, None, notice=f"canary {version} was withdrawn: {why}")

    def _unused(self, name: str, versions: list[int]) -> list[Fleet]:
        """Return the fleets among `versions` that the endpoint's record names no longer."""
        record = self.ledger.records[name]
        named = {record.current, *(s.version for s in (record.canary, record.shadow) if s)}
        fleets = (self.fleets.get((name, v)) for v in dict.fromkeys(versions) if v not in named)
        return [fleet for fleet in fleets if fleet is not None]

    async def withdraw(self, fleets: list[Fleet]) -> None:
        """Take fleets out of the table; they end once what they have in flight is answered."""
        drained: list[list[asyncio.Event]] = []
        for fleet in fleets:
            self.fleets.pop((fleet.name, fleet.version), None)
            events = [self._drained.setdefault(p, asyncio.Event()) for p in fleet.sockets()]
            drained.append(events)
        await self.front.push()
        for fleet, events in zip(fleets, drained, strict=True):
            self._spawn_task(self._end(fleet, events))

    async def _end(self, fleet: Fleet, drained: list[asyncio.Event]) -> None:
        await self._until_drained(fleet.sockets(), drained)
        await fleet.stop()

    async def _until_drained(self, paths: list[str], drained: list[asyncio.Event]) -> None:
        """Return once the gateway has every answer of the replicas at `paths`, or after long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_TIMEOUT):
                await asyncio.gather(*(event.wait() for event in drained))
        for path in paths:
            self._drained.pop(path, None)


def search_path() -> str:
    """Return PYTHONPATH such that children import the same nbaas, wherever it lies."""
    given = os.environ.get("PYTHONPATH", "")
    home = str(Path(nbaas.__file__).parents[1])
    if Path(home).name in ("site-packages", "dist-packages") or home in given.split(os.pathsep):
        return given
    return os.pathsep.join([given, home] if given else [home])
