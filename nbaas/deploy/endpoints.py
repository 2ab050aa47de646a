"""The endpoint host: one detached process per user that owns the port, the versions and the children.

Run as `python -P -m nbaas.deploy.endpoints HOME LOCK [HOST PORT]` with the lock's descriptor inherited.
It holds the listening socket for its whole life, so the port never refuses; it starts the gateway and
the replicas and starts them again; it alone writes the journals of the endpoints.  A version takes
over only after all its replicas have given the golden answer; then the old ones are drained.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import nbaas
from nbaas.config import Settings, load_settings
from nbaas.deploy.control import runtime_folder, serve_control
from nbaas.deploy.fleet import Fleet, Surroundings
from nbaas.deploy.front import Front
from nbaas.deploy.registry import (
    EndpointRecord,
    Options,
    apply,
    checked_name,
    discard,
    endpoint_paths,
    read_endpoint,
    read_endpoints,
    read_version,
    version_folder,
    version_folders,
    write_secret,
)
from nbaas.errors import BundleError, DeployError, EndpointNotFoundError, NbaasError
from nbaas.journal import JournalWriter
from nbaas.launchers.environment import allowed_environment
from nbaas.launchers.processes import boot_id
from nbaas.records import from_json, to_json

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

    def __init__(self, settings: Settings, listener: socket.socket, sockets: Path) -> None:
        self.settings = settings
        self.listener = listener
        self.sockets = sockets
        self.token = secrets.token_urlsafe(32)
        self.records: dict[str, EndpointRecord] = {}
        self.fleets: dict[tuple[str, int], Fleet] = {}
        self.stopped = asyncio.Event()
        self._journals: dict[str, JournalWriter] = {}
        self._busy: dict[str, asyncio.Lock] = {}
        self._drained: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        lifeline, self._alive = os.pipe()
        environment = allowed_environment(os.environ) | {"PYTHONPATH": search_path()}
        self.around = Surroundings(
            environment, sockets, lifeline, self._changed, settings.start_timeout
        )
        log = host_folder(settings) / "gateway.log"
        self.front = Front(listener, environment, log, lifeline, self.table, self._on_drained)

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Bring back what the journals say is served, then open the door."""
        write_secret(host_folder(self.settings) / "token", self.token)
        for record in read_endpoints(self.settings.endpoints):
            self.records[record.name] = record
            versions = [record.current] + ([record.canary.version] if record.canary else [])
            for version in versions:
                self._revive(record, version)
        await self.front.start()

    def _revive(self, record: EndpointRecord, version: int) -> None:
        try:
            fleet = self._fleet(record.name, version, record.options)
        except NbaasError as lost:
            print(f"{record.name} {version} cannot be served: {lost}", file=sys.stderr)  # noqa: T201
            return
        self.fleets[record.name, version] = fleet
        fleet.revive()

    def _fleet(self, name: str, version: int, options: Options) -> Fleet:
        endpoints = self.settings.endpoints
        folder = version_folder(endpoints, name, version)
        manifest = read_version(endpoints, name, version)
        log = endpoint_paths(endpoints, name).log(f"v{version}")
        return Fleet(name, version, folder, manifest, options, log, self.around)

    async def stop(self) -> None:
        """Answer what is in flight and end every child."""
        await self.front.stop(STOP_GRACE)
        await asyncio.gather(*(fleet.stop() for fleet in self.fleets.values()))

    # ------------------------------------------------------------ the table

    def table(self) -> dict[str, Any]:
        """Return the routes as the gateway is to serve them now."""
        return {
            "token": hashlib.sha256(self.token.encode()).hexdigest(),
            "endpoints": {name: self._entry(record) for name, record in self.records.items()},
        }

    def _entry(self, record: EndpointRecord) -> dict[str, Any]:
        versions = {
            str(number): fleet.described()
            for (name, number), fleet in self.fleets.items()
            if name == record.name and not fleet.stopping
        }
        canary = record.canary
        return {
            "current": str(record.current),
            "versions": versions,
            "max_body": record.options.max_body,
            "tokens": [{"hash": t.hash, "expires": t.expires} for t in record.tokens],
            "canary": {"version": str(canary.version), "percent": canary.percent}
            if canary
            else None,
        }

    def _changed(self) -> None:
        """Tell the gateway soon: a replica came or went."""
        self._spawn_task(self.front.push())

    def _on_drained(self, path: str) -> None:
        if path in self._drained:
            self._drained[path].set()

    def _spawn_task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _note(self, name: str, event: dict[str, Any]) -> EndpointRecord:
        """Append an event to the endpoint's journal, synced, and return the record after it."""
        if name not in self._journals:
            self._journals[name] = JournalWriter(
                endpoint_paths(self.settings.endpoints, name).events
            )
        event = {"time": time.time(), **event}
        if not self._journals[name].append(event, sync=True):
            raise DeployError(f"the journal of {name} cannot be written", hint="is the disk full?")
        record = self.records.get(name) or read_endpoint(self.settings.endpoints, name)
        return apply(record, event)

    # ------------------------------------------------------------ what clients ask

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to one request on the control socket."""
        operation = _OPERATIONS.get(str(request.get("op")))
        if operation is None:
            raise DeployError(f"the host knows no {request.get('op')!r}")
        name = request.get("name")
        if name is None:
            return await operation(self, request)
        async with self._busy.setdefault(checked_name(name), asyncio.Lock()):
            return await operation(self, request)

    async def ping(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - an operation
        return {"pid": os.getpid(), "version": nbaas.__version__}

    async def deploy(self, request: dict[str, Any]) -> dict[str, Any]:
        """Serve a published version: its replicas are started, then it takes over."""
        name, version = request["name"], int(request["version"])
        options = from_json(Options, request["options"])
        try:
            fleet = self._fleet(name, version, options)
            await fleet.start()
        except NbaasError:
            discard(self.settings.endpoints, name, version)
            raise
        await self._take_over(name, version, fleet, options)
        return self._described(name)

    async def rollback(self, request: dict[str, Any]) -> dict[str, Any]:
        """Serve an older version again: the one asked for, or the one before."""
        record = self._served(request["name"])
        version = int(request.get("version") or record.previous)
        if not version:
            known = ", ".join(map(str, version_folders(self.settings.endpoints, record.name)))
            raise DeployError(
                f"{record.name} has no version before {record.current}", hint=f"versions: {known}"
            )
        if version == record.current:
            raise DeployError(f"{record.name} serves version {version} already")
        fleet = self.fleets.get((record.name, version))
        if fleet is None or fleet.stopping:
            fleet = self._fleet(record.name, version, record.options)
            await fleet.start()
        await self._take_over(record.name, version, fleet, record.options)
        return self._described(record.name)

    async def _take_over(self, name: str, version: int, fleet: Fleet, options: Options) -> None:
        """Make `fleet` the current one; the one before is drained once the gateway has let go."""
        record = self.records.get(name)
        old = (
            self.fleets.get((name, record.current))
            if record and record.current != version
            else None
        )
        first = record is None
        event = {"event": "current", "version": version, "options": to_json(options)}
        record = self._note(name, event)
        self.records[name] = record
        self.fleets[name, version] = fleet
        if first:
            self._ensure_token(name)
        await self._withdraw(name, [old] if old else [])

    async def _withdraw(self, name: str, fleets: list[Fleet]) -> None:
        """Take fleets out of the table; they end once what they have in flight is answered."""
        waiting: list[tuple[Fleet, list[asyncio.Event]]] = []
        for fleet in fleets:
            events = [self._drained.setdefault(p, asyncio.Event()) for p in fleet.sockets()]
            waiting.append((fleet, events))
            self.fleets.pop((name, fleet.version), None)
        await self.front.push()
        for fleet, events in waiting:
            self._spawn_task(self._end(fleet, events))

    async def _end(self, fleet: Fleet, drained: list[asyncio.Event]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_TIMEOUT):
                await asyncio.gather(*(event.wait() for event in drained))
        for path in fleet.sockets():
            self._drained.pop(path, None)
        await fleet.stop()

    def _ensure_token(self, name: str) -> None:
        """Make the endpoint's first token; its value lies in a file of the owner's only."""
        if self.records[name].tokens:
            return
        value = secrets.token_urlsafe(32)
        write_secret(endpoint_paths(self.settings.endpoints, name).token, value)
        self.records[name] = self._note(
            name, {"event": "token", "token": _token(value, "default", 0.0)}
        )

    async def undeploy(self, request: dict[str, Any]) -> dict[str, Any]:
        """Stop serving an endpoint; its versions stay on the disk."""
        record = self._served(request["name"])
        self._note(record.name, {"event": "removed"})
        del self.records[record.name]
        endpoint_paths(self.settings.endpoints, record.name).token.unlink(missing_ok=True)
        fleets = [fleet for (name, _), fleet in self.fleets.items() if name == record.name]
        await self._withdraw(record.name, fleets)
        return {"name": record.name}

    async def describe(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return every endpoint with the counts of the gateway."""
        stats = await self.front.stats()
        return {
            "endpoints": [
                {**self._described(name), "counts": stats.get(name, {})}
                for name in sorted(self.records)
            ],
            "gateway": {"restarts": self.front.restarts},
        }

    def _described(self, name: str) -> dict[str, Any]:
        record = self.records[name]
        fleet = self.fleets.get((name, record.current))
        return {
            "name": name,
            "version": record.current,
            "previous": record.previous,
            "state": _state(fleet),
            "reason": fleet.reason() if fleet else "its version cannot be read",
            "replicas": len(fleet.replicas) if fleet else 0,
            "ready": fleet.ready if fleet else 0,
            "restarts": sum(r.restarts for r in fleet.replicas) if fleet else 0,
            "max_batch": max((r.max_batch for r in fleet.replicas), default=0) if fleet else 0,
            "pids": [r.child.pid for r in fleet.replicas if r.child and r.ready] if fleet else [],
            "canary": to_json(record.canary) if record.canary else None,
        }

    def _served(self, name: str) -> EndpointRecord:
        if name not in self.records:
            known = ", ".join(sorted(self.records)) or "none"
            raise EndpointNotFoundError(f"there is no endpoint {name!r}", hint=f"served: {known}")
        return self.records[name]

    async def shutdown(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        self.stopped.set()
        return {}


Operation = Callable[[Host, dict[str, Any]], Awaitable[dict[str, Any]]]
_OPERATIONS: dict[str, Operation] = {
    "ping": Host.ping,
    "deploy": Host.deploy,
    "rollback": Host.rollback,
    "undeploy": Host.undeploy,
    "describe": Host.describe,
    "shutdown": Host.shutdown,
}


def _state(fleet: Fleet | None) -> str:
    if fleet is None:
        return "FAILED"
    if fleet.ready:
        return "READY"
    return "FAILED" if fleet.reason() else "STARTING"


def _token(value: str, label: str, expires: float) -> dict[str, Any]:
    return {
        "id": secrets.token_hex(4),
        "hash": hashlib.sha256(value.encode()).hexdigest(),
        "label": label,
        "created": time.time(),
        "expires": expires,
    }


def search_path() -> str:
    """Return PYTHONPATH such that children import the same nbaas, wherever it lies."""
    given = os.environ.get("PYTHONPATH", "")
    home = str(Path(nbaas.__file__).parents[1])
    if Path(home).name in ("site-packages", "dist-packages") or home in given.split(os.pathsep):
        return given
    return os.pathsep.join([given, home] if given else [home])


# ---------------------------------------------------------------- the process


def listening_socket(settings: Settings, host: str, port: int) -> socket.socket:
    """Return the socket of the port asked for; with port 0 the port of last time if it is free."""
    wanted = port or _last_port(settings)
    for number in dict.fromkeys([wanted, port]):
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, number))
        except OSError as taken:
            listener.close()
            if number == port:
                raise DeployError(f"{host}:{port} cannot be listened on: {taken}") from taken
            continue
        listener.listen(1024)
        listener.setblocking(False)  # noqa: FBT003 - positional only
        return listener
    raise DeployError(f"{host}:{port} cannot be listened on")


def _last_port(settings: Settings) -> int:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads(state_path(settings).read_text())["port"])
    return 0


async def run_host(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM or until asked to end; the caller holds the lock."""
    folder = host_folder(settings)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    listener = listening_socket(settings, host, port)
    sockets = runtime_folder(settings.home)
    for stale in sockets.glob("*.sock"):
        stale.unlink(missing_ok=True)
    this = Host(settings, listener, sockets)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, this.stopped.set)
    await this.start()
    control = sockets / "control.sock"
    server = await serve_control(control, this.answer)
    state = {
        "pid": os.getpid(),
        "boot": boot_id(),
        "host": listener.getsockname()[0],
        "port": listener.getsockname()[1],
        "control": str(control),
        "started": time.time(),
    }
    write_secret(state_path(settings), json.dumps(state))
    await this.stopped.wait()
    server.close()
    control.unlink(missing_ok=True)
    await this.stop()


def main(argv: list[str]) -> None:
    """Become the detached host: `HOME LOCK [HOST PORT]`."""
    home, _lock, *address = argv[1:]
    os.umask(0o077)
    os.chdir("/")
    settings = load_settings(home=home)
    host, port = (address[0], int(address[1])) if address else ("127.0.0.1", 0)
    with contextlib.suppress(BundleError):
        asyncio.run(run_host(settings, host, port))


if __name__ == "__main__":
    main(sys.argv)
