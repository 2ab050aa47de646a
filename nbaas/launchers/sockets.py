"""Unix sockets of one user: where they lie, and who is at the other end."""

from __future__ import annotations

import os
import socket
import stat
import struct
import sys
from pathlib import Path

PEER = struct.Struct("3i")  # pid, uid, gid


def socket_folder() -> Path:
    """Return a folder of this user's own for sockets, short enough for a socket's path."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and _is_own(Path(runtime)):
        folder = Path(runtime) / "nbaas"
    else:
        folder = Path(f"/tmp/nbaas-{os.getuid()}")  # noqa: S108 - the owner is checked below
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_own(folder):
        raise PermissionError(f"{folder} belongs to someone else")
    return folder


def _is_own(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def peer(client: socket.socket) -> int:
    """Return the process at the other end of a Unix socket, 0 where the system does not tell."""
    if sys.platform != "linux":
        return 0
    cred = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
    return int(PEER.unpack(cred)[0])


def same_user(client: socket.socket) -> bool:
    """Return whether the process at the other end of a Unix socket belongs to this user."""
    if sys.platform != "linux":
        return True  # the folder and the socket are the user's own
    cred = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
    return bool(PEER.unpack(cred)[1] == os.getuid())
