"""What notebooks, the server extension and the shell call: deploy, predict, list, roll back, withdraw.

Rule: nothing here loads torch or numpy before it is needed; the host is started on first use.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbaas.config import Settings
from nbaas.deploy.control import ask
from nbaas.deploy.endpoints import host_folder, search_path, state_path
from nbaas.deploy.manifest import Signature, VersionManifest
from nbaas.deploy.registry import (
    Options,
    checked_name,
    endpoint_paths,
    found_endpoint,
    publish,
    read_endpoints,
    read_version,
)
from nbaas.errors import (
    DeployError,
    EndpointError,
    EndpointNotFoundError,
    InputError,
    NbaasError,
    UnauthorizedError,
)
from nbaas.launchers.environment import allowed_environment
from nbaas.records import from_json, to_json

START_TIMEOUT = 30.0  # seconds for the host to answer
ASK_TIMEOUT = 20.0
POLL = 0.02


@dataclass(frozen=True, slots=True)
class Deployment:
    """A version that is served; `url` takes Open Inference requests, `predict_url` plain JSON."""

    name: str
    version: int
    url: str
    predict_url: str
    token_file: str
    signature: Signature
    seconds: float = 0.0  # from the call until the first answer is possible


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """One line of %endpoints."""

    name: str
    version: int
    state: str  # READY | STARTING | FAILED | STOPPED
    url: str
    replicas: int = 0
    ready: int = 0
    restarts: int = 0
    requests: int = 0
    errors: int = 0
    p50: float = 0.0  # seconds
    p99: float = 0.0
    reason: str = ""


def deploy(
    settings: Settings,
    model: Any,
    *,
    name: str,
    example: Any = None,
    options: Options | None = None,
    sources: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Deployment:
    """Publish `model` as the next version of the endpoint `name` and return it once it serves.

    Raises: DeployError: it cannot be written down, or a replica cannot rebuild it; what was served
    before is served on.  UsageError: `name` is none.
    """
    from nbaas.deploy.export import bare_module, export_model

    started = time.monotonic()
    checked_name(name)
    bare_module(model)
    ensure_host(settings)
    made: list[VersionManifest] = []

    def write(draft: Path) -> None:
        made.append(export_model(model, name, draft, example=example, sources=sources, facts=facts))

    version, _ = publish(settings.endpoints, name, write)
    request = {
        "op": "deploy",
        "name": name,
        "version": version,
        "options": to_json(options or Options()),
    }
    _ask(settings, request, timeout=settings.start_timeout + ASK_TIMEOUT)
    return _deployment(settings, name, version, made[0].signature, time.monotonic() - started)


def _deployment(
    settings: Settings, name: str, version: int, signature: Signature, seconds: float
) -> Deployment:
    host, port = gateway_address(settings)
    base = f"http://{host}:{port}"
    return Deployment(
        name=name,
        version=version,
        url=f"{base}/v2/models/{name}/infer",
        predict_url=f"{base}/predict/{name}",
        token_file=str(endpoint_paths(settings.endpoints, name).token),
        signature=signature,
        seconds=seconds,
    )


def list_endpoints(settings: Settings) -> list[EndpointStatus]:
    """Return the endpoints by name; STOPPED where no host runs."""
    records = read_endpoints(settings.endpoints)
    try:
        described = _ask(settings, {"op": "describe"}, timeout=5.0)["endpoints"]
    except EndpointError:
        return [EndpointStatus(r.name, r.current, "STOPPED", "") for r in records]
    host, port = gateway_address(settings)
    return [_status(entry, f"http://{host}:{port}") for entry in described]


def _status(entry: dict[str, Any], base: str) -> EndpointStatus:
    counts = entry["counts"].get(str(entry["version"]), {})
    return from_json(
        EndpointStatus, {**counts, **entry, "url": f"{base}/v2/models/{entry['name']}/infer"}
    )


def undeploy(settings: Settings, name: str) -> None:
    """Stop serving an endpoint; its versions stay on the disk."""
    found_endpoint(settings.endpoints, name)
    ensure_host(settings)
    _ask(settings, {"op": "undeploy", "name": name}, timeout=ASK_TIMEOUT)


def rollback(settings: Settings, name: str, version: int | None = None) -> Deployment:
    """Serve `version`, or the one before the current, and return it."""
    found_endpoint(settings.endpoints, name)
    ensure_host(settings)
    request = {"op": "rollback", "name": name, "version": version or 0}
    entry = _ask(settings, request, timeout=settings.start_timeout + ASK_TIMEOUT)
    signature = read_version(settings.endpoints, name, entry["version"]).signature
    return _deployment(settings, name, entry["version"], signature, 0.0)


def token(settings: Settings, name: str) -> str:
    """Return the endpoint's first token, from the file that its owner alone can read."""
    path = endpoint_paths(settings.endpoints, name).token
    try:
        return path.read_text().strip()
    except OSError as lost:
        found_endpoint(settings.endpoints, name)
        raise DeployError(
            f"the token of {name!r} is not in {path}", hint="make a new one"
        ) from lost


def host_token(settings: Settings) -> str:
    """Return the token of the running host, which may see every endpoint."""
    try:
        return (host_folder(settings) / "token").read_text().strip()
    except OSError as lost:
        raise EndpointError("no endpoint host runs here", hint="%deploy starts it") from lost


def gateway_address(settings: Settings) -> tuple[str, int]:
    """Return host and port of the gateway.  Raises: EndpointError: no host runs."""
    state = read_state(settings)
    if state is None:
        raise EndpointError("no endpoint host runs here", hint="%deploy starts it")
    return state["host"], state["port"]


def predict(
    settings: Settings, name: str, inputs: Any, *, version: int | None = None, timeout: float = 60.0
) -> Any:
    """Return the endpoint's answer as an array, as a dict of arrays where it has several outputs.

    `inputs` is an array, tensor or list for a model of one input, else a dict by input name.
    Raises: InputError: it does not fit the signature.  EndpointNotFoundError.  EndpointError.
    """
    from nbaas.deploy.wire import decode_outputs, encode_inputs

    record = found_endpoint(settings.endpoints, name)
    signature = read_version(settings.endpoints, name, version or record.current).signature
    header_length, body = encode_inputs(inputs, signature)
    ensure_host(settings)
    where = f"/versions/{version}" if version else ""
    headers = {
        "Authorization": f"Bearer {token(settings, name)}",
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(header_length),
    }
    path = f"/v2/models/{name}{where}/infer"
    status, answer_headers, answer = _post(gateway_address(settings), path, headers, body, timeout)
    if status != 200:  # noqa: PLR2004 - HTTP
        raise _error_of(status, answer)
    return decode_outputs(answer, answer_headers)


def _post(
    address: tuple[str, int], path: str, headers: dict[str, str], body: bytes, timeout: float
) -> tuple[int, Mapping[str, str], bytes]:
    connection = http.client.HTTPConnection(*address, timeout=timeout)
    try:
        connection.request("POST", path, body=body, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    except (OSError, http.client.HTTPException) as lost:
        raise EndpointError(f"the gateway does not answer: {lost}", hint="%endpoints") from lost
    finally:
        connection.close()


def _error_of(status: int, body: bytes) -> NbaasError:
    try:
        reason = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        reason = f"the gateway answers {status}"
    kinds: dict[int, type[NbaasError]] = {
        400: InputError,
        413: InputError,
        401: UnauthorizedError,
        404: EndpointNotFoundError,
    }
    return kinds.get(status, EndpointError)(reason)


# ---------------------------------------------------------------- the host


def read_state(settings: Settings) -> dict[str, Any] | None:
    """Return what the host wrote about itself; None where none runs."""
    if not _lock_held(host_folder(settings) / "lock"):
        return None
    try:
        state: dict[str, Any] = json.loads(state_path(settings).read_text())
    except (OSError, ValueError):
        return None
    return state


def _lock_held(path: Path) -> bool:
    fd = _try_lock(path) if path.exists() else None
    if fd is not None:
        os.close(fd)
        return False
    return path.exists()


def _try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock, None where another process does."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def ensure_host(settings: Settings) -> None:
    """Return when an endpoint host answers; starts one where none runs."""
    deadline = time.monotonic() + START_TIMEOUT
    lock_path = host_folder(settings) / "lock"
    if (lock := _try_lock(lock_path)) is not None:
        try:
            state_path(settings).unlink(missing_ok=True)
            _spawn_host(settings, lock)
        finally:
            os.close(lock)  # the host's copy keeps it
    while True:
        with contextlib.suppress(EndpointError):
            _ask(settings, {"op": "ping"}, timeout=5.0)
            return
        if not _lock_held(lock_path):
            tail = _tail(host_folder(settings) / "host.log")
            raise EndpointError(
                f"the endpoint host ended at its start: {tail}", hint="nbaas doctor"
            )
        if time.monotonic() > deadline:
            raise EndpointError("the endpoint host does not answer", hint="nbaas doctor")
        time.sleep(POLL)


def _tail(log: Path) -> str:
    from nbaas.deploy.children import log_tail

    return log_tail(log)


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


def _ask(settings: Settings, request: dict[str, Any], timeout: float) -> dict[str, Any]:
    state = read_state(settings)
    if state is None:
        raise EndpointError("no endpoint host runs here", hint="%deploy starts it")
    return ask(Path(state["control"]), request, timeout)


def serve(settings: Settings, host: str = "127.0.0.1", port: int = 0) -> int:
    """Run the endpoint host in the foreground until SIGTERM or Ctrl-C; return the exit code.

    Raises: DeployError: another host runs for this home, or the port is taken.
    """
    import asyncio

    from nbaas.deploy.endpoints import run_host

    lock = _try_lock(host_folder(settings) / "lock")
    if lock is None:
        state = read_state(settings) or {}
        raise DeployError(
            f"an endpoint host runs already on {state.get('host')}:{state.get('port')}",
            hint="one host serves all endpoints of a user",
        )
    try:
        asyncio.run(run_host(settings, host, port))
    finally:
        os.close(lock)
    return 0


def stop_host(settings: Settings) -> None:
    """End the host and everything it serves; the next use starts it again."""
    with contextlib.suppress(EndpointError):
        _ask(settings, {"op": "shutdown"}, timeout=ASK_TIMEOUT)
    deadline = time.monotonic() + START_TIMEOUT
    while _lock_held(host_folder(settings) / "lock") and time.monotonic() < deadline:
        time.sleep(POLL)
