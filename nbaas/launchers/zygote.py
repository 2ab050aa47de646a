"""The zygote of a user and host: where it listens, and how one is started.

Rule: a zygote serves one user, one interpreter and one set of installed packages; what these are is
part of its address, so that no rank runs code that has been replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbaas
from nbaas.config import Settings
from nbaas.launchers.environment import allowed_environment, search_path
from nbaas.launchers.forked import BLANK_TAG, MAX_MESSAGE, connection
from nbaas.launchers.processes import TAG
from nbaas.launchers.sockets import socket_folder

DETACH = Path(__file__).with_name("detach.py")
# What makes a process another one than the zygote was: read before Python or the libraries start.
DECISIVE = ("PYTHONPATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV", "CONDA_PREFIX")
PACKAGES = ("torch", "numpy", "horovod", "cloudpickle")


def address() -> Path:
    """Return where the zygote of this interpreter and these packages listens, or would listen."""
    parts = [sys.executable, sys.version, *(os.environ.get(name, "") for name in DECISIVE)]
    parts += _fingerprint()
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return socket_folder() / f"zygote-{digest}.sock"


def _fingerprint() -> Iterator[str]:
    """Yield what changes when nbaas or a package that the zygote imports is installed anew."""
    for source in sorted(Path(nbaas.__file__).parent.rglob("*.py")):
        yield f"{source} {source.stat().st_mtime_ns}"
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin:
            with contextlib.suppress(OSError):
                yield f"{spec.origin} {Path(spec.origin).stat().st_mtime_ns}"


def ensure(settings: Settings) -> Path:
    """Return the zygote's address; starts one in the background where none listens."""
    listens_at = address()
    if not is_listening(listens_at):
        _start(listens_at, settings)
    return listens_at


def is_listening(listens_at: Path) -> bool:
    with connection() as client:
        try:
            client.connect(str(listens_at))
        except OSError:
            return False
        return True


class Awaited:
    """A zygote that may still be importing: asked once, looked at without waiting."""

    def __init__(self, listens_at: Path, timeout: float) -> None:
        self._listens_at = listens_at
        self._deadline = time.monotonic() + timeout
        self._client: socket.socket | None = None

    def is_over(self, now: float) -> bool:
        """Return whether it has answered, or is not worth waiting for any more."""
        if now < self._deadline and not self._has_answered():
            return False
        if self._client is not None:
            self._client.close()
        return True

    def _has_answered(self) -> bool:
        if self._client is None:
            client = connection()
            client.setblocking(False)  # noqa: FBT003 - positional only
            try:
                client.connect(str(self._listens_at))
                client.send(b'{"verb": "status"}')
            except OSError:
                client.close()  # not listening yet
                return False
            self._client = client
        try:
            self._client.recv(MAX_MESSAGE)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True


def _start(listens_at: Path, settings: Settings) -> None:
    env = allowed_environment(os.environ)
    env |= {
        TAG: BLANK_TAG,
        "PYTHONPATH": search_path(env.get("PYTHONPATH", "")),
        "PYTHONHASHSEED": "0",
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        # Read when the libraries are loaded, and a pool of threads would not survive the fork;
        # each rank sets its own share.
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    arguments = (str(listens_at), settings.engine, str(settings.zygote_idle))
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    log = os.open(listens_at.with_suffix(".log"), flags, 0o600)
    try:
        subprocess.run(
            (
                *(sys.executable, "-I", "-S", str(DETACH)),
                *(sys.executable, "-P", "-m", "nbaas.launchers.forker", *arguments),
            ),
            env=env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            check=False,
        )
    finally:
        os.close(log)


def status(listens_at: Path) -> dict[str, Any] | None:
    """Return what a zygote says about itself: pid, modules imported, threads; None without one."""
    with connection() as client:
        try:
            client.connect(str(listens_at))
            client.send(b'{"verb": "status"}')
            answer = json.loads(client.recv(MAX_MESSAGE))
        except (OSError, ValueError):
            return None
    return answer if isinstance(answer, dict) else None
