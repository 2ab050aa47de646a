"""The control socket of the endpoint host: one JSON line asks, one answers.

Rules: socket 0600 in a folder 0700, and only processes of the same user are answered (SO_PEERCRED);
errors of nbaas travel as their JSON form and are raised again on the other side.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import struct
import traceback
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from nbaas.errors import EndpointError, NbaasError, error_named

MAX_LINE = 1 << 20  # bytes
PEER = struct.Struct("3i")  # pid, uid, gid
Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def runtime_folder(home: Path) -> Path:
    """Return a folder of this user's own for the sockets of one nbaas home; its path is short."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    base = Path(runtime) / "nbaas" if runtime and _is_own(Path(runtime)) else None
    base = base or Path(f"/tmp/nbaas-{os.getuid()}")  # noqa: S108 - the owner is checked below
    base.mkdir(mode=0o700, exist_ok=True)
    if not _is_own(base):
        raise PermissionError(f"{base} belongs to someone else")
    folder = base / sha256(str(home.resolve()).encode()).hexdigest()[:12]
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _is_own(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    private = not stat.S_IMODE(found.st_mode) & 0o077
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and private


def same_user(peer: socket.socket) -> bool:
    """Whether the process at the other end runs as this user."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the folder is 0700
    _, uid, _ = PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))
    return bool(uid == os.getuid())


async def serve_control(path: Path, answer: Answer) -> asyncio.Server:
    """Return a server that answers each line by `answer`."""

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ValueError):
            if same_user(writer.get_extra_info("socket")):
                while line := await reader.readline():
                    writer.write(json.dumps(await _answered(line, answer)).encode() + b"\n")
                    await writer.drain()
        writer.close()

    listener = _listener(path)
    return await asyncio.start_unix_server(on_client, sock=listener, limit=MAX_LINE)


def _listener(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    return listener


async def _answered(line: bytes, answer: Answer) -> dict[str, Any]:
    try:
        return {"ok": await answer(json.loads(line))}
    except NbaasError as wrong:
        return {"error": wrong.to_json()}
    except Exception as bug:  # noqa: BLE001 - the host must outlive any request
        traceback.print_exc()
        return {
            "error": {"kind": "EndpointError", "error": f"the host failed: {bug!r}", "hint": ""}
        }


def ask(path: Path, request: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Return the host's answer.  Raises: EndpointError: nobody answers; what the host raised."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(timeout)
            client.connect(str(path))
            client.sendall(json.dumps(request).encode() + b"\n")
            with client.makefile("rb") as stream:
                line = stream.readline()
    except (OSError, TimeoutError) as lost:
        raise EndpointError(
            f"the endpoint host does not answer: {lost}", hint="nbaas doctor"
        ) from lost
    if not line:
        raise EndpointError("the endpoint host ended while it was asked", hint="ask again")
    answered: dict[str, Any] = json.loads(line)
    if "error" in answered:
        wrong = answered["error"]
        raise error_named(wrong["kind"], wrong["error"], wrong["hint"])
    found: dict[str, Any] = answered["ok"]
    return found
