"""`%tokens`: who may ask an endpoint; made, listed without their values, taken back."""

from __future__ import annotations

from typing import Any

from nbaas.config import load_settings
from nbaas.deploy import client
from nbaas.deploy.quantities import duration
from nbaas.errors import UsageError
from nbaas.magics.flags import LineParser, number
from nbaas.magics.tables import Table


def tokens_parser() -> LineParser:
    parser = LineParser("%tokens", "List, make or revoke the tokens of an endpoint.")
    add = parser.add_argument
    add("name", nargs="?", help="the endpoint")
    add("--create", metavar="LABEL", help="make one; its value is shown this once")
    add("--expires", type=duration, metavar="30d", help="its lifetime; for ever if not given")
    add("--rate", type=number, metavar="R", help="requests a second that it may send")
    add("--revoke", metavar="ID", help="make one worthless, at once")
    return parser


def tokens(found: Any) -> Table | str:
    """Return the table of tokens, or what was done to one."""
    if not found.name:
        raise UsageError("%tokens needs the name of an endpoint", hint="%tokens digits")
    if found.create is not None and found.revoke is not None:
        raise UsageError("--create or --revoke, not both", hint="%tokens --help")
    if found.create is None and (found.expires is not None or found.rate is not None):
        raise UsageError("--expires and --rate are for a new token", hint="--create LABEL")
    settings = load_settings()
    if found.revoke is not None:
        client.revoke_token(settings, found.name, found.revoke)
        return f"token {found.revoke} of {found.name} is worthless now"
    if found.create is not None:
        made = client.create_token(
            settings, found.name, label=found.create,
            lifetime=found.expires or 0.0, rate=found.rate or 0.0,
        )  # fmt: skip
        return f"{made.value}\n  shown this once: {made.line()}"
    rows = tuple(tuple(token.cells()) for token in client.list_tokens(settings, found.name))
    return Table(
        ("id", "label", "made", "until", "rate"), rows, empty="no token: --create makes one"
    )
