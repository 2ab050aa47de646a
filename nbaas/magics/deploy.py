"""`%deploy %predict %endpoints %undeploy %rollback`: a model of the notebook behind a URL."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbaas.config import load_settings
from nbaas.deploy import client
from nbaas.deploy.card import Card
from nbaas.deploy.cards import read_card
from nbaas.deploy.files import KINDS
from nbaas.deploy.registry import Options
from nbaas.deploy.subscription import predict_stream
from nbaas.errors import DeployError, UsageError
from nbaas.magics.files import file_named, predicted_file
from nbaas.magics.flags import LineParser, number, whole_number
from nbaas.magics.lineage import job_facts
from nbaas.magics.serving_flags import add_serving_flags, serving_options
from nbaas.magics.shell import Shell
from nbaas.magics.tables import Table
from nbaas.magics.words import evaluate, split_line

ALL = client.Shares()


def parsers() -> dict[str, LineParser]:
    """Return the parsers of these magics by name."""
    return {
        "%deploy": deploy_parser(),
        "%predict": predict_parser(),
        "%endpoints": endpoints_parser(),
        "%undeploy": _named_parser("%undeploy", "Take an endpoint out of service; versions stay."),
        "%rollback": _rollback_parser(),
    }


def deploy_parser() -> LineParser:
    parser = LineParser("%deploy", "Publish a module as a version of an endpoint.")
    add = parser.add_argument
    add("model", nargs="?", help="the module: a name or an expression")
    add("--name", default="", help="the endpoint; the model's name where none is given")
    add(
        "--example", default="", metavar="INPUT", help="an input of the model: a name or expression"
    )
    add_serving_flags(parser)
    add("--pre", default="", metavar="FN", help="function run on the input before the model")
    add("--post", default="", metavar="FN", help="function run on what the model returns")
    add("--note", default="", metavar="TEXT", help="a sentence for the model card")
    add(
        "--canary",
        type=number,
        metavar="PERCENT",
        help="give the new version a part of the traffic",
    )
    add("--shadow", type=number, metavar="PERCENT", help="or copies of a part, answers dropped")
    add("--limit", type=number, metavar="P", help="withdraw the canary at over P percent of errors")
    return parser


def predict_parser() -> LineParser:
    parser = LineParser("%predict", "Send an input to an endpoint over HTTP; returns its answer.")
    add = parser.add_argument
    add("name", nargs="?", help="the endpoint")
    add("input", nargs="?", help="a name or an expression, or a file: " + ", ".join(KINDS))
    add("--to", default="", metavar="FILE", help="where the answers to a file go")
    add("--stream", action="store_true", help="print the items of a model that yields as they come")
    return parser


def endpoints_parser() -> LineParser:
    parser = LineParser("%endpoints", "List the endpoints with version, state and URL.")
    parser.add_argument("name", nargs="?", help="the endpoint whose card is wanted")
    parser.add_argument("--card", action="store_true", help="the model card of the served version")
    parser.add_argument("--version", type=whole_number, metavar="V", help="or of this version")
    return parser


def _named_parser(magic: str, description: str) -> LineParser:
    parser = LineParser(magic, description)
    parser.add_argument("name", nargs="?", help="the endpoint")
    return parser


def _rollback_parser() -> LineParser:
    parser = _named_parser("%rollback", "Serve the version before the current one again.")
    parser.add_argument("--to", type=whole_number, metavar="VERSION", help="or this version")
    return parser


@dataclass(frozen=True, slots=True)
class Deployed:
    """What `%deploy` returns: where the version answers, and how to ask it."""

    name: str
    version: int
    url: str  # Open Inference protocol
    predict_url: str  # plain JSON: {"inputs": [...]}
    token_file: str
    seconds: float
    share: str = ""  # of the requests, where that is not all
    streams: bool = False  # it yields

    @property
    def token(self) -> str:
        """The secret that requests carry; read from its file, never shown by itself."""
        return Path(self.token_file).read_text().strip()

    def __repr__(self) -> str:
        authorized = f'-H "Authorization: Bearer $(cat {self.token_file})"'
        flag, keyword = ("--stream ", ", stream=True") if self.streams else ("", "")
        curl = f"curl {'-N ' if self.streams else ''}{authorized}"
        lines = (
            f"{self.name} version {self.version} {self.share or 'serves'}, after {self.seconds:.1f} s",
            f"  URL     {self.url}",
            f"  JSON    {self.predict_url}",
            f"  token   in {self.token_file}",
            f"  Python  %predict {flag}{self.name} x    nbaas.predict({self.name!r}, x{keyword})",
            f"  shell   {curl} -d '{{\"inputs\": [[...]]}}' {self.predict_url}",
        )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def deployed(made: client.Deployment, shares: client.Shares = ALL) -> Deployed:
    return Deployed(
        made.name, made.version, made.url, made.predict_url, made.token_file, made.seconds,
        "" if shares == ALL else str(shares), made.streams,
    )  # fmt: skip


def deploy(shell: Shell, parser: LineParser, line: str) -> Deployed:
    """Publish the module a line names."""
    found = parser.read(line, shell.namespace)
    if not found.model:
        raise UsageError("%deploy needs a module", hint="%deploy model --name digits")
    model = evaluate(found.model, shell.namespace)
    example = evaluate(found.example, shell.namespace) if found.example else None
    name = found.name or _name_for(found.model)
    pre, post = (evaluate(f, shell.namespace) if f else None for f in (found.pre, found.post))
    options = serving_options(found)
    shares = client.Shares(found.canary or 0.0, found.shadow or 0.0, found.limit or 0.0)
    return published(
        model, name, example, options, pre=pre, post=post, note=found.note, shares=shares
    )


def published(
    model: Any,
    name: str,
    example: Any,
    options: Options,
    *,
    pre: Any = None,
    post: Any = None,
    note: str = "",
    shares: client.Shares = ALL,
) -> Deployed:
    """Publish `model` with what its card will tell: the job that trained it, the note."""
    settings = load_settings()
    facts = job_facts(settings, model) | ({"note": note} if note else {})
    return deployed(
        client.deploy(
            settings, model, name=name, example=example, options=options, facts=facts,
            pre=pre, post=post, canary=shares.canary, shadow=shares.shadow, limit=shares.limit,
        ),
        shares,
    )  # fmt: skip


def predict(shell: Shell, parser: LineParser, line: str) -> Any:
    """Return an endpoint's answer to the input a line names: `%predict digits x[:5]`."""
    words = split_line(line)
    found = parser.read_words(words)
    if not found.name or not found.input:
        raise UsageError("%predict needs an endpoint and an input", hint="%predict digits x")
    if found.stream:
        return _print_items(found.name, evaluate(found.input, shell.namespace))
    path = file_named(found.input, shell.namespace)
    if path is not None:
        return predicted_file(found.name, path, found.to)
    if found.to:
        raise UsageError("--to is for files", hint="%predict digits rows.csv --to answers.csv")
    inputs = evaluate(found.input, shell.namespace)
    if isinstance(inputs, Path):
        return predicted_file(found.name, inputs, found.to)
    return client.predict(load_settings(), found.name, inputs)


def _print_items(name: str, inputs: Any) -> None:
    """Print the items of a stream as they come; an interrupt closes it."""
    items = predict_stream(load_settings(), name, inputs)
    try:
        for item in items:
            print(item, flush=True)  # noqa: T201 - what the magic is for
    finally:
        items.close()


def listed(found: Any) -> Table | Card:
    """Return the table of endpoints, or the card that was asked for."""
    if not found.name:
        if found.card or found.version:
            raise UsageError("a card needs an endpoint", hint="%endpoints digits --card")
        return endpoint_table()
    return read_card(load_settings(), found.name, found.version)


def endpoint_table() -> Table:
    rows = tuple(_endpoint_row(endpoint) for endpoint in client.list_endpoints(load_settings()))
    header = ("name", "version", "state", "replicas", "requests", "p50", "p99", "URL")
    return Table(header, rows, empty="no endpoints: %deploy model --name digits makes one")


def _endpoint_row(endpoint: client.EndpointStatus) -> tuple[str, ...]:
    reason = f": {endpoint.reason}" if endpoint.reason else ""
    reason += f"; {endpoint.notice}" if endpoint.notice else ""
    canary, shadow = endpoint.canary, endpoint.shadow
    version = str(endpoint.version)
    version += f", canary {canary.version} {canary.percent:g} %" if canary else ""
    version += f", shadow {shadow.version} {shadow.percent:g} %" if shadow else ""
    return (
        endpoint.name,
        version,
        endpoint.state + reason,
        f"{endpoint.ready} of {endpoint.replicas}",
        str(endpoint.requests),
        f"{1000 * endpoint.p50:.1f} ms" if endpoint.requests else "",
        f"{1000 * endpoint.p99:.1f} ms" if endpoint.requests else "",
        endpoint.url,
    )


def undeploy(name: str | None) -> str:
    """Take an endpoint out of service; returns what to tell."""
    _required("%undeploy", name)
    client.undeploy(load_settings(), str(name))
    return f"{name} is out of service; its versions stay on disk"


def rollback(found: Any) -> str:
    """Serve an earlier version; returns what to tell."""
    _required("%rollback", found.name)
    made = client.rollback(load_settings(), found.name, version=found.to)
    if made.withdrawn:
        return (
            f"canary {made.withdrawn} of {made.name} is withdrawn; it serves version {made.version}"
        )
    return f"{made.name} serves version {made.version} again"


def _required(magic: str, name: str | None) -> None:
    if not name:
        raise UsageError(f"{magic} needs the name of an endpoint", hint="%endpoints lists them")


def _name_for(expression: str) -> str:
    if not expression.isidentifier():
        raise DeployError(f"an endpoint for {expression} needs a name", hint="--name digits")
    return expression.replace("_", "-").lower()
