"""The process of the endpoint host: its port, its control socket, its end.

Run detached as `python -P -m nbaas.deploy.detach HOME LOCK` with the lock's descriptor inherited, or in
the foreground by `nbaas serve`.  It holds the listening socket for its whole life, so the port never
refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

from nbaas.config import Settings, load_settings, own_folder
from nbaas.deploy.control import runtime_folder, serve_control
from nbaas.deploy.endpoints import Host, host_folder, state_path
from nbaas.deploy.lease import expired
from nbaas.deploy.registry import write_secret
from nbaas.deploy.tls import Tls
from nbaas.errors import DeployError
from nbaas.launchers.processes import become_subreaper, boot_id

LOOK_AROUND = 2.0  # seconds
IDLE_STOP = 600.0  # seconds without an endpoint


def listening_socket(settings: Settings, host: str, port: int) -> socket.socket:
    """Return the socket of the port asked for; with port 0 the port of last time if it is free."""
    last = 0 if port else _last_port(settings)
    if last:
        with contextlib.suppress(DeployError):
            return bound_socket(host, last)
    return bound_socket(host, port)


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens; DeployError where the address cannot be had."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as taken:
        listener.close()
        raise DeployError(f"{host}:{port} cannot be listened on: {taken}") from taken
    listener.listen(1024)
    listener.setblocking(False)  # noqa: FBT003 - positional only
    return listener


def _port_path(settings: Settings) -> Path:
    """Where the port of last time stands, so that clients find the host again after a restart."""
    return host_folder(settings) / "port"


def _last_port(settings: Settings) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(_port_path(settings).read_text())
    return 0


async def run_host(settings: Settings, host: str, port: int, tls: Tls | None = None) -> None:
    """Serve until SIGTERM or until asked to end; the caller holds the lock.

    With `tls`, `host:port` speaks TLS only; notebooks and servers of this machine use a loopback port.
    """
    become_subreaper()  # replicas are grandchildren, forked by the zygote
    folder = host_folder(settings)
    own_folder(folder)
    secure = bound_socket(host, port) if tls else None
    listener = listening_socket(settings, "127.0.0.1" if tls else host, 0 if tls else port)
    sockets = runtime_folder(settings.home)
    for stale in sockets.glob("*.sock"):
        stale.unlink(missing_ok=True)
    this = Host(settings, listener, sockets, (secure, tls) if secure and tls else None)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, this.stopped.set)
    await this.start()
    control = sockets / "control.sock"
    server = await serve_control(control, this.answer)
    public = (secure or listener).getsockname()
    at = f"[{public[0]}]" if ":" in public[0] else public[0]
    state = {
        "pid": os.getpid(),
        "boot": boot_id(),
        "host": listener.getsockname()[0],
        "port": listener.getsockname()[1],
        "url": f"{'https' if tls else 'http'}://{at}:{public[1]}",
        "control": str(control),
        "started": time.time(),
    }
    write_secret(_port_path(settings), str(state["port"]))
    write_secret(state_path(settings), json.dumps(state))
    caretaker = loop.create_task(_stop_when_unneeded(this, folder / "lock", settings))
    await this.stopped.wait()
    caretaker.cancel()
    server.close()
    control.unlink(missing_ok=True)
    await this.stop()


async def _stop_when_unneeded(host: Host, lock: Path, settings: Settings) -> None:
    """End the host when its home is gone, its lease is over, or nothing has been served for long."""
    held, idle_since, started = _identity(lock), time.monotonic(), time.time()
    while True:
        await asyncio.sleep(LOOK_AROUND)
        if expired(settings, started, time.time()):
            print("the lease is over: the server of this hub has been stopped", file=sys.stderr)  # noqa: T201
            host.stopped.set()
            return
        if host.ledger.records or host.occupied:
            idle_since = time.monotonic()
        if _identity(lock) != held or time.monotonic() - idle_since > IDLE_STOP:
            host.stopped.set()
            return


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def main(argv: list[str]) -> None:
    """Become the detached host: `HOME LOCK [HOST PORT]`."""
    home, _lock, *address = argv[1:]
    os.umask(0o077)
    os.chdir("/")
    settings = load_settings(home=home)
    host, port = (address[0], int(address[1])) if address else ("127.0.0.1", 0)
    asyncio.run(run_host(settings, host, port))
