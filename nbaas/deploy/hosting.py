"""The endpoint host as others see it: whether it runs, where it listens, how it is started and asked.

Rule: the lock is the only evidence that a host lives.  It is taken by whoever starts one and passed on
with its descriptor, so that two starts at a time make one host.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from nbaas.config import Settings
from nbaas.deploy.children import log_tail
from nbaas.deploy.control import ask
from nbaas.deploy.endpoints import host_folder, search_path, state_path
from nbaas.deploy.lease import lease_path, on_hub
from nbaas.deploy.tls import Tls
from nbaas.errors import DeployError, EndpointError
from nbaas.launchers.environment import allowed_environment
from nbaas.launchers.locks import is_held, take_lock

START_TIMEOUT = 30.0  # seconds for the host to answer
ASK_TIMEOUT = 20.0
POLL = 0.02


def read_state(settings: Settings) -> dict[str, Any] | None:
    """Return what the host wrote about itself; None where none runs."""
    if not is_held(host_folder(settings) / "lock"):
        return None
    try:
        state: dict[str, Any] = json.loads(state_path(settings).read_text())
    except (OSError, ValueError):
        return None
    return state


def ensure_host(settings: Settings) -> None:
    """Return when an endpoint host answers; starts one where none runs."""
    deadline = time.monotonic() + START_TIMEOUT
    lock_path = host_folder(settings) / "lock"
    if (lock := take_lock(lock_path)) is not None:
        try:
            state_path(settings).unlink(missing_ok=True)
            if not on_hub():
                lease_path(settings).unlink(missing_ok=True)  # of a hub that shared this home
            _spawn_host(settings, lock)
        finally:
            os.close(lock)  # the host's copy keeps it
    while True:
        with contextlib.suppress(EndpointError):
            ask_host(settings, {"op": "ping"}, timeout=5.0)
            return
        if not is_held(lock_path):
            tail = log_tail(host_folder(settings) / "host.log")
            raise EndpointError(
                f"the endpoint host ended at its start: {tail}", hint="nbaas doctor"
            )
        if time.monotonic() > deadline:
            raise EndpointError("the endpoint host does not answer", hint="nbaas doctor")
        time.sleep(POLL)


def _spawn_host(settings: Settings, lock: int) -> None:
    """Start the detached host, which inherits the lock that is held."""
    log = os.open(
        host_folder(settings) / "host.log",
        os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC,
        0o600,
    )
    environment = allowed_environment(os.environ, extra=("XDG_RUNTIME_DIR", "NBAAS_START_TIMEOUT"))
    try:
        subprocess.Popen(
            [sys.executable, "-P", "-m", "nbaas.deploy.detach", str(settings.home), str(lock)],
            env=environment | {"PYTHONPATH": search_path()},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            # The kernel's interrupt goes to its whole process group; endpoints must not hear it.
            start_new_session=True,
        ).wait(START_TIMEOUT)
    finally:
        os.close(log)


def ask_host(settings: Settings, request: dict[str, Any], timeout: float) -> dict[str, Any]:
    state = read_state(settings)
    if state is None:
        raise EndpointError("no endpoint host runs here", hint="%deploy starts it")
    return ask(Path(state["control"]), request, timeout)


def serve(
    settings: Settings, host: str = "127.0.0.1", port: int = 0, tls: Tls | None = None
) -> int:
    """Run the endpoint host in the foreground until SIGTERM or Ctrl-C; return the exit code.

    Raises: DeployError: another host runs for this home, or the port is taken.
    """
    import asyncio

    from nbaas.deploy.host import run_host

    lock = take_lock(host_folder(settings) / "lock")
    if lock is None:
        state = read_state(settings) or {}
        raise DeployError(
            f"an endpoint host runs already on {state.get('host')}:{state.get('port')}",
            hint="one host serves all endpoints of a user",
        )
    state_path(settings).unlink(missing_ok=True)  # of the host before
    try:
        asyncio.run(run_host(settings, host, port, tls))
    finally:
        os.close(lock)
    return 0


def stop_host(settings: Settings) -> None:
    """End the host and everything it serves; the next use starts it again."""
    with contextlib.suppress(EndpointError):
        ask_host(settings, {"op": "shutdown"}, timeout=ASK_TIMEOUT)
    deadline = time.monotonic() + START_TIMEOUT
    while is_held(host_folder(settings) / "lock") and time.monotonic() < deadline:
        time.sleep(POLL)
