"""The lease of endpoints on a hub: they outlive a single-user server that was stopped for so long only.

A server under JupyterHub renews the file while it runs; the host ends once nobody has for the lease's
length.  Elsewhere there is no such file, and endpoints outlive the server.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from nbaas.config import Settings
from nbaas.deploy.endpoints import host_folder

RENEWALS = 5  # in the length of one lease


def lease_path(settings: Settings) -> Path:
    """Where the length of the lease stands, in seconds; when it was renewed is the file's time."""
    return host_folder(settings) / "lease"


def on_hub(environ: Mapping[str, str] = os.environ) -> bool:
    return "JUPYTERHUB_USER" in environ


def renew(settings: Settings) -> None:
    """Let the endpoints run for one more lease from now on."""
    path = lease_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(f"{settings.lease:g}")


def expired(settings: Settings, started: float, now: float) -> bool:
    """Return whether nobody has renewed the lease in time; a host that starts has all of it."""
    path = lease_path(settings)
    with contextlib.suppress(OSError, ValueError):
        length = float(path.read_text())
        return length > 0 and now - max(path.stat().st_mtime, started) > length
    return False
