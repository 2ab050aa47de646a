"""`nbaas serve`, `nbaas tokens` and `nbaas canary`: endpoints from the shell.

Rule: nothing is imported here that a command does not need; `nbaas.cli` gives the parser.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from nbaas.config import Settings
from nbaas.deploy.quantities import duration
from nbaas.errors import UsageError

POLL = 0.1  # seconds
Command = Callable[..., Any]


def add_serving_commands(commands: Any, command: Command) -> None:
    """Add the commands of endpoints to the shell's; `command` makes one parser."""
    serve = command(commands, "serve", run_serve, "serve the deployed models without Jupyter")
    serve.add_argument("--host", default="127.0.0.1", metavar="ADDRESS")
    serve.add_argument("--port", type=int, default=0, metavar="P", help="0 takes a free one")
    serve.add_argument("--tls-cert", default="", metavar="FILE", help="certificate chain, PEM")
    serve.add_argument("--tls-key", default="", metavar="FILE", help="its key, PEM")
    tokens = command(commands, "tokens", run_tokens, "list, make or revoke tokens of an endpoint")
    tokens.add_argument("name", help="the endpoint")
    tokens.add_argument("--create", metavar="LABEL", help="make one; its value is shown once")
    tokens.add_argument(
        "--expires", type=duration, default=0.0, metavar="30d", help="never if not given"
    )
    tokens.add_argument("--rate", type=float, default=0.0, metavar="R", help="requests a second")
    tokens.add_argument("--revoke", metavar="ID", help="make one worthless")
    tokens.add_argument("--json", action="store_true", help="one JSON object a line")
    canary = command(commands, "canary", run_canary, "change the share of a new version")
    canary.add_argument("name", help="the endpoint")
    canary.add_argument("percent", type=float, help="0 withdraws it, 100 makes it the current one")
    canary.add_argument("--version", type=int, metavar="V", help="a version on the disk")
    canary.add_argument(
        "--limit", type=float, metavar="P", help="withdraw it at over P %% of errors"
    )


def run_serve(arguments: argparse.Namespace, settings: Settings) -> int:
    from nbaas.deploy.hosting import read_state, serve
    from nbaas.deploy.tls import checked_tls

    tls = checked_tls(arguments.tls_cert, arguments.tls_key)
    if not 0 <= arguments.port < 1 << 16:
        raise UsageError(f"{arguments.port} is no port", hint="1 to 65535, 0 takes a free one")

    def tell() -> None:
        while (state := read_state(settings)) is None:
            time.sleep(POLL)
        print(f"serving on {state['url']}; Ctrl-C ends it", flush=True)
        if tls is None and not _is_loopback(arguments.host):
            print("tokens travel in the clear: --tls-cert and --tls-key encrypt them", flush=True)

    threading.Thread(target=tell, daemon=True).start()
    return serve(settings, arguments.host, arguments.port, tls)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run_tokens(arguments: argparse.Namespace, settings: Settings) -> int:
    from nbaas.deploy import client
    from nbaas.records import to_json

    if arguments.revoke:
        client.revoke_token(settings, arguments.name, arguments.revoke)
        print(f"token {arguments.revoke} of {arguments.name} is worthless now")
        return 0
    if arguments.create is not None:
        made = client.create_token(
            settings, arguments.name, label=arguments.create,
            lifetime=arguments.expires, rate=arguments.rate,
        )  # fmt: skip
        print(json.dumps(to_json(made)) if arguments.json else made.value)
        return 0
    for token in client.list_tokens(settings, arguments.name):
        row = {key: value for key, value in to_json(token).items() if key != "value"}
        print(json.dumps(row) if arguments.json else token.line())
    return 0


def run_canary(arguments: argparse.Namespace, settings: Settings) -> int:
    from nbaas.deploy import client

    status = client.set_canary(
        settings, arguments.name, arguments.percent,
        version=arguments.version, limit=arguments.limit,
    )  # fmt: skip
    print(status.split())
    return 0
