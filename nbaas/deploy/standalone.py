"""One version served by itself, without Jupyter and without a home of its own: what an image runs.

`python serve.py [--host H] [--port P]` in an exported folder calls `main`.  The token comes from the
file that NBAAS_TOKEN_FILE names, or from NBAAS_TOKEN; without either one is made, and where it lies
is printed, never the token itself.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nbaas.config import Settings, load_settings
from nbaas.deploy.hosting import read_state, serve
from nbaas.deploy.ledger import FIRST_TOKEN, Ledger
from nbaas.deploy.registry import Options, Token, endpoint_paths, write_secret
from nbaas.errors import NbaasError, UsageError
from nbaas.records import from_json, to_json

SERVED = "served.json"
LEAST_TOKEN = 16  # characters
PORT = 8080
CHECK_TIMEOUT = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Served:
    """What the folder `model/` holds: the version in `folder`, and how it is run."""

    name: str
    version: int
    folder: str
    options: Options


def read_served(model: Path) -> Served:
    try:
        told = json.loads((model / SERVED).read_text())
        options = from_json(Options, told["options"])
        return Served(told["name"], int(told["version"]), told["folder"], options)
    except (OSError, ValueError, KeyError, TypeError) as wrong:
        raise UsageError(f"{model / SERVED} does not say what to serve: {wrong!r}") from wrong


def write_served(model: Path, served: Served) -> None:
    (model / SERVED).write_text(json.dumps(to_json(served), indent=1) + "\n")


def main(model: Path, argv: Sequence[str]) -> int:
    """Serve the version in `model` until SIGTERM; return the exit code."""
    arguments = _arguments(argv)
    if arguments.check:
        return 0 if is_ready(arguments.port) else 1
    try:
        served = read_served(model)
        settings = load_settings(home=os.environ.get("NBAAS_HOME") or tempfile.mkdtemp())
        if arguments.replicas:
            served = replace(served, options=replace(served.options, replicas=arguments.replicas))
        _prepare(settings, model, served, os.environ)
        threading.Thread(target=_tell, args=(settings, served), daemon=True).start()
        return serve(settings, arguments.host, arguments.port)
    except NbaasError as error:
        print(f"nbaas: {error}", file=sys.stderr)  # noqa: T201 - a program of its own
        return 1


def _arguments(argv: Sequence[str]) -> Any:
    parser = argparse.ArgumentParser(
        description="Serve one model version: Open Inference over HTTP."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--replicas", type=int, default=0, help="model processes")
    parser.add_argument("--check", action="store_true", help="exit 0 if the server is ready")
    return parser.parse_args(list(argv))


def _prepare(settings: Settings, model: Path, served: Served, environ: Mapping[str, str]) -> None:
    """Make the home say that this version is served, with the token that was given."""
    paths = endpoint_paths(settings.endpoints, served.name)
    paths.versions.mkdir(parents=True, exist_ok=True, mode=0o700)
    link = paths.versions / served.folder
    if not link.exists():
        link.symlink_to((model / served.folder).resolve(), target_is_directory=True)
    ledger = Ledger(settings.endpoints)
    options = to_json(served.options)
    ledger.note(served.name, {"event": "current", "version": served.version, "options": options})
    value = given_token(environ)
    if not value:
        ledger.ensure_token(served.name)
        return
    digest = hashlib.sha256(value.encode()).hexdigest()
    if not any(token.hash == digest for token in ledger.records[served.name].tokens):
        token = Token(digest[:8], digest, FIRST_TOKEN, time.time())
        ledger.note(served.name, {"event": "token", "token": to_json(token)})
    write_secret(paths.token, value)


def given_token(environ: Mapping[str, str]) -> str:
    """Return the token of NBAAS_TOKEN_FILE or NBAAS_TOKEN; '' where neither is set.

    Raises: UsageError: the file cannot be read, or the token is too short to be one.
    """
    path = environ.get("NBAAS_TOKEN_FILE", "")
    try:
        value = Path(path).read_text().strip() if path else environ.get("NBAAS_TOKEN", "").strip()
    except OSError as lost:
        raise UsageError(f"NBAAS_TOKEN_FILE cannot be read: {lost}") from lost
    if value and len(value) < LEAST_TOKEN:
        raise UsageError(
            f"the token has {len(value)} characters, at least {LEAST_TOKEN} are needed",
            hint="openssl rand -hex 24 makes one",
        )
    return value


def _tell(settings: Settings, served: Served) -> None:
    while (state := read_state(settings)) is None:
        time.sleep(0.05)
    where = f"http://{state['host']}:{state['port']}"
    path = endpoint_paths(settings.endpoints, served.name).token
    print(  # noqa: T201 - a program of its own
        f"{served.name} version {served.version} on {where}/v2/models/{served.name}/infer, "
        f"token in {path}",
        flush=True,
    )


def is_ready(port: int) -> bool:
    """Whether the server on this machine answers and its model does."""
    url = f"http://127.0.0.1:{port}/v2/health/ready"
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(url, timeout=CHECK_TIMEOUT) as answer,
    ):
        return bool(answer.status == 200)  # noqa: PLR2004 - HTTP
    return False
