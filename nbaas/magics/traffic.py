"""`%canary`: how much of an endpoint's traffic a new version gets, until it is promoted or withdrawn."""

from __future__ import annotations

from typing import Any

from nbaas.config import load_settings
from nbaas.deploy import client
from nbaas.errors import UsageError
from nbaas.magics.flags import LineParser, number, whole_number

WHOLE = 100  # percent


def canary_parser() -> LineParser:
    parser = LineParser("%canary", "Show or change the share of an endpoint's canary.")
    add = parser.add_argument
    add("name", nargs="?", help="the endpoint")
    add("percent", nargs="?", type=number, help="its share of the requests; none shows it")
    add("--version", type=whole_number, metavar="V", help="a version on the disk as canary")
    add("--limit", type=number, metavar="P", help="withdraw it at over P percent of errors")
    add("--promote", action="store_true", help="make it the current version")
    add("--abort", action="store_true", help="withdraw it")
    add("--shadow", action="store_true", help="of the shadow, whose answers are dropped")
    return parser


def canary(found: Any) -> str:
    """Change a share as the line says; returns how the endpoint's traffic is split now."""
    if not found.name:
        raise UsageError("%canary needs the name of an endpoint", hint="%canary digits 20")
    settings = load_settings()
    percent = asked_percent(
        found.percent, promote=found.promote, abort=found.abort, shadow=found.shadow
    )
    if percent is None:
        if found.version is not None or found.limit is not None:
            raise UsageError("which share?", hint=f"%canary {found.name} 20")
        return client.endpoint_status(settings, found.name).split()
    status = client.set_canary(
        settings, found.name, percent,
        version=found.version, limit=found.limit, shadow=found.shadow,
    )  # fmt: skip
    return status.split()


def asked_percent(
    percent: float | None, *, promote: bool, abort: bool, shadow: bool
) -> float | None:
    """Return the share that is asked for, None where it is only to be shown."""
    if sum((percent is not None, promote, abort)) > 1:
        raise UsageError("one of a percentage, --promote and --abort", hint="%canary digits 20")
    if promote and shadow:
        raise UsageError("a shadow is not promoted", hint="%canary digits --version 2 --promote")
    if promote:
        return float(WHOLE)
    return 0.0 if abort else percent
