"""`%deploy %predict %endpoints %undeploy %rollback`: a model of the notebook behind a URL."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbaas.config import load_settings
from nbaas.deploy import client
from nbaas.deploy.registry import Options
from nbaas.errors import DeployError, UsageError
from nbaas.magics.flags import LineParser, number, whole_number
from nbaas.magics.shell import Shell
from nbaas.magics.tables import Table
from nbaas.magics.words import evaluate, split_line


def parsers() -> dict[str, LineParser]:
    """Return the parsers of these magics by name."""
    return {
        "%deploy": deploy_parser(),
        "%predict": predict_parser(),
        "%endpoints": LineParser("%endpoints", "List the endpoints with version, state and URL."),
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
    add("--replicas", type=whole_number, metavar="N", help="model processes")
    add("--max-batch", type=whole_number, metavar="B", help="rows in one call of the model")
    add("--max-wait", type=number, metavar="MS", help="milliseconds a lone row waits for others")
    add(
        "--canary",
        type=number,
        metavar="PERCENT",
        help="give the new version a part of the traffic",
    )
    return parser


def predict_parser() -> LineParser:
    parser = LineParser("%predict", "Send an input to an endpoint over HTTP; returns its answer.")
    parser.add_argument("name", nargs="?", help="the endpoint")
    parser.add_argument("input", nargs="?", help="a name or an expression of the notebook")
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

    @property
    def token(self) -> str:
        """The secret that requests carry; read from its file, never shown by itself."""
        return Path(self.token_file).read_text().strip()

    def __repr__(self) -> str:
        authorized = f'-H "Authorization: Bearer $(cat {self.token_file})"'
        lines = (
            f"{self.name} version {self.version} serves, after {self.seconds:.1f} s",
            f"  URL     {self.url}",
            f"  JSON    {self.predict_url}",
            f"  token   in {self.token_file}",
            f"  Python  %predict {self.name} x    nbaas.predict({self.name!r}, x)",
            f"  shell   curl {authorized} -d '{{\"inputs\": [[...]]}}' {self.predict_url}",
        )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def deployed(made: client.Deployment) -> Deployed:
    return Deployed(
        made.name, made.version, made.url, made.predict_url, made.token_file, made.seconds
    )


def deploy(shell: Shell, parser: LineParser, line: str) -> Deployed:
    """Publish the module a line names."""
    found = parser.read(line, shell.namespace)
    if not found.model:
        raise UsageError("%deploy needs a module", hint="%deploy model --name digits")
    model = evaluate(found.model, shell.namespace)
    example = evaluate(found.example, shell.namespace) if found.example else None
    name = found.name or _name_for(found.model)
    given = {
        "replicas": found.replicas,
        "max_batch": found.max_batch,
        "max_wait": None if found.max_wait is None else found.max_wait / 1000,
    }
    options = Options(**{key: value for key, value in given.items() if value is not None})
    return deployed(
        client.deploy(load_settings(), model, name=name, example=example, options=options)
    )


def predict(shell: Shell, parser: LineParser, line: str) -> Any:
    """Return an endpoint's answer to the input a line names: `%predict digits x[:5]`."""
    words = split_line(line)
    found = parser.read_words(words)
    if not found.name or not found.input:
        raise UsageError("%predict needs an endpoint and an input", hint="%predict digits x")
    inputs = evaluate(found.input, shell.namespace)
    return client.predict(load_settings(), found.name, inputs)


def endpoint_table() -> Table:
    rows = tuple(_endpoint_row(endpoint) for endpoint in client.list_endpoints(load_settings()))
    header = ("name", "version", "state", "replicas", "requests", "p50", "p99", "URL")
    return Table(header, rows, empty="no endpoints: %deploy model --name digits makes one")


def _endpoint_row(endpoint: client.EndpointStatus) -> tuple[str, ...]:
    reason = f": {endpoint.reason}" if endpoint.reason else ""
    return (
        endpoint.name,
        str(endpoint.version),
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
    return f"{made.name} serves version {made.version} again"


def _required(magic: str, name: str | None) -> None:
    if not name:
        raise UsageError(f"{magic} needs the name of an endpoint", hint="%endpoints lists them")


def _name_for(expression: str) -> str:
    if not expression.isidentifier():
        raise DeployError(f"an endpoint for {expression} needs a name", hint="--name digits")
    return expression.replace("_", "-").lower()
