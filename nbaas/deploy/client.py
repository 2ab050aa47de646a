"""What notebooks, the server extension and the shell call: deploy, predict, list, roll back, withdraw.

Rule: nothing here loads torch or numpy before it is needed; the host is started on first use.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nbaas.config import Settings
from nbaas.deploy.endpoints import host_folder
from nbaas.deploy.hosting import ASK_TIMEOUT, ask_host, ensure_host, read_state, serve, stop_host
from nbaas.deploy.manifest import Signature, VersionManifest
from nbaas.deploy.registry import (
    Options,
    checked_name,
    checked_options,
    endpoint_paths,
    found_endpoint,
    publish,
    read_endpoints,
    read_version,
)
from nbaas.deploy.status import EndpointStatus, Shares, ShareStatus, status_of
from nbaas.errors import (
    DeployError,
    EndpointError,
    EndpointNotFoundError,
    InputError,
    MissingPackageError,
    NbaasError,
    UnauthorizedError,
    UsageError,
)
from nbaas.records import from_json, to_json

__all__ = [
    "Deployment",
    "EndpointStatus",
    "Options",
    "ShareStatus",
    "Shares",
    "TokenRecord",
    "create_token",
    "deploy",
    "endpoint_status",
    "gateway_address",
    "host_token",
    "list_endpoints",
    "list_tokens",
    "predict",
    "revoke_token",
    "rollback",
    "serve",
    "set_canary",
    "stop_host",
    "token",
    "undeploy",
]

LONGEST_LABEL = 100


@dataclass(frozen=True, slots=True)
class Deployment:
    """A version that is served; `url` takes Open Inference requests, `predict_url` plain JSON."""

    name: str
    version: int
    url: str
    predict_url: str
    token_file: str
    signature: Signature
    seconds: float = 0.0  # from the call until the first answer is possible
    withdrawn: int = 0  # the canary that a rollback took away instead
    streams: bool = False  # it yields: both URLs answer with server-sent events


def deploy(  # noqa: PLR0913 - the flags of %deploy
    settings: Settings,
    model: Any,
    *,
    name: str,
    example: Any = None,
    options: Options | None = None,
    sources: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
    canary: float = 0.0,
    shadow: float = 0.0,
    limit: float = 0.0,
    pre: Any = None,
    post: Any = None,
) -> Deployment:
    """Publish `model` as the next version of the endpoint `name` and return it once it serves.

    `model` may also be a function that calls a module; `pre` and `post` are run before and after it.
    `canary` is the percentage of requests it gets at first, `shadow` of those it gets copies of;
    0 makes it the current version.  A canary is withdrawn once over `limit` percent of answers are 5xx.
    Raises: DeployError: it cannot be written down, or a replica cannot rebuild it; what was served
    before is served on.  UsageError: `name` is none.
    """
    from nbaas.deploy.export import export_model, servable

    started = time.monotonic()
    options = checked_options(options or Options())
    checked_name(name)
    Shares(canary, shadow, limit).check()
    if canary or shadow:
        found_endpoint(settings.endpoints, name)
    servable(model, pre, post)
    ensure_host(settings)
    made: list[VersionManifest] = []

    def write(draft: Path) -> None:
        made.append(
            export_model(
                model,
                name,
                draft,
                example=example,
                sources=sources,
                facts=facts,
                pre=pre,
                post=post,
                engine=options.engine,
            )
        )

    version, _ = publish(settings.endpoints, name, write)
    request = {"op": "deploy", "name": name, "version": version, "options": to_json(options)}
    request |= {"canary": canary, "shadow": shadow, "limit": limit}
    ask_host(settings, request, timeout=settings.start_timeout + ASK_TIMEOUT)
    return _deployment(settings, name, version, made[0], time.monotonic() - started)


def _deployment(
    settings: Settings, name: str, version: int, manifest: VersionManifest, seconds: float
) -> Deployment:
    host, port = gateway_address(settings)
    base = f"http://{host}:{port}"
    return Deployment(
        name=name,
        version=version,
        url=f"{base}/v2/models/{name}/{'infer_stream' if manifest.streams else 'infer'}",
        predict_url=f"{base}/predict/{name}{'/stream' if manifest.streams else ''}",
        token_file=str(endpoint_paths(settings.endpoints, name).token),
        signature=manifest.signature,
        seconds=seconds,
        streams=manifest.streams,
    )


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token of an endpoint; `value` is known only where it has just been made."""

    id: str
    label: str
    created: float  # seconds since the epoch
    expires: float = 0.0  # 0: never
    rate: float = 0.0  # requests a second; 0: what the endpoint says
    value: str = field(default="", repr=False)

    def cells(self) -> list[str]:
        """Return the token without its value, in words: id, label, when made, until when, its rate."""
        until = _moment(self.expires) if self.expires else "for ever"
        until = f"expired {until}" if 0 < self.expires < time.time() else until
        return [
            self.id, self.label, _moment(self.created), until, f"{self.rate:g}/s" if self.rate else "",
        ]  # fmt: skip

    def line(self) -> str:
        identity, label, made, until, rate = self.cells()
        until = until if until == "for ever" or until.startswith("expired") else f"until {until}"
        return ", ".join(filter(None, [f"{identity} {label}", f"made {made}", until, rate]))


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def create_token(
    settings: Settings, name: str, *, label: str = "", lifetime: float = 0.0, rate: float = 0.0
) -> TokenRecord:
    """Return a new token of the endpoint; its value is shown this once.

    `lifetime` in seconds, 0 for ever; `rate` in requests a second, 0 as the endpoint says.
    """
    if lifetime < 0 or rate < 0 or len(label) > LONGEST_LABEL:
        raise UsageError(
            f"lifetime {lifetime:g}, rate {rate:g}, label of {len(label)} letters",
            hint=f"no number below 0, a label of at most {LONGEST_LABEL} letters",
        )
    request = {"op": "token_create", "name": name, "label": label, "lifetime": lifetime}
    request["rate"] = rate
    found_endpoint(settings.endpoints, name)
    ensure_host(settings)
    return from_json(TokenRecord, ask_host(settings, request, ASK_TIMEOUT))


def list_tokens(settings: Settings, name: str) -> list[TokenRecord]:
    """Return the endpoint's tokens, without their values."""
    record = found_endpoint(settings.endpoints, name)
    return [from_json(TokenRecord, to_json(each)) for each in record.tokens]


def revoke_token(settings: Settings, name: str, token_id: str) -> None:
    """Make a token worthless from now on; `token_id` as list_tokens gives it."""
    found_endpoint(settings.endpoints, name)
    ensure_host(settings)
    ask_host(settings, {"op": "token_revoke", "name": name, "id": token_id}, ASK_TIMEOUT)


def list_endpoints(settings: Settings) -> list[EndpointStatus]:
    """Return the endpoints by name; STOPPED where no host runs."""
    records = read_endpoints(settings.endpoints)
    try:
        described = ask_host(settings, {"op": "describe"}, 5.0)["endpoints"]
    except EndpointError:
        return [EndpointStatus(r.name, r.current, "STOPPED", "") for r in records]
    host, port = gateway_address(settings)
    return [status_of(entry, f"http://{host}:{port}") for entry in described]


def endpoint_status(settings: Settings, name: str) -> EndpointStatus:
    """Return how one endpoint stands.  Raises: EndpointNotFoundError."""
    found_endpoint(settings.endpoints, name)
    return next(status for status in list_endpoints(settings) if status.name == name)


def undeploy(settings: Settings, name: str) -> None:
    """Stop serving an endpoint; its versions stay on the disk."""
    found_endpoint(settings.endpoints, name)
    ensure_host(settings)
    ask_host(settings, {"op": "undeploy", "name": name}, timeout=ASK_TIMEOUT)


def rollback(settings: Settings, name: str, version: int | None = None) -> Deployment:
    """Serve `version`, or the one before the current, and return it; a canary is withdrawn instead."""
    found_endpoint(settings.endpoints, name)
    ensure_host(settings)
    request = {"op": "rollback", "name": name, "version": version or 0}
    entry = ask_host(settings, request, timeout=settings.start_timeout + ASK_TIMEOUT)
    manifest = read_version(settings.endpoints, name, entry["version"])
    made = _deployment(settings, name, entry["version"], manifest, 0.0)
    return replace(made, withdrawn=entry.get("withdrawn", 0))


def set_canary(
    settings: Settings,
    name: str,
    percent: float,
    *,
    version: int | None = None,
    limit: float | None = None,
    shadow: bool = False,
) -> EndpointStatus:
    """Change the canary's share of the requests: 0 withdraws it, 100 makes it the current version.

    `version` may be any on the disk; none is the present canary.  With `shadow`, of the shadow's copies.
    """
    found_endpoint(settings.endpoints, name)
    ensure_host(settings)
    request = {
        "op": "canary",
        "name": name,
        "percent": percent,
        "version": version or 0,
        "limit": limit,
        "shadow": shadow,
    }
    entry = ask_host(settings, request, settings.start_timeout + ASK_TIMEOUT)
    host, port = gateway_address(settings)
    return status_of({"counts": {}, **entry}, f"http://{host}:{port}")


def token(settings: Settings, name: str) -> str:
    """Return the endpoint's first token, from the file that its owner alone can read."""
    path = endpoint_paths(settings.endpoints, name).token
    try:
        return path.read_text().strip()
    except OSError as lost:
        found_endpoint(settings.endpoints, name)
        raise DeployError(
            f"the token of {name!r} is not in {path}", hint="make a new one"
        ) from lost


def host_token(settings: Settings) -> str:
    """Return the token of the running host, which may see every endpoint."""
    try:
        return (host_folder(settings) / "token").read_text().strip()
    except OSError as lost:
        raise EndpointError("no endpoint host runs here", hint="%deploy starts it") from lost


def gateway_address(settings: Settings) -> tuple[str, int]:
    """Return host and port of the gateway.  Raises: EndpointError: no host runs."""
    state = read_state(settings)
    if state is None:
        raise EndpointError("no endpoint host runs here", hint="%deploy starts it")
    return state["host"], state["port"]


def predict(
    settings: Settings, name: str, inputs: Any, *, version: int | None = None, timeout: float = 60.0
) -> Any:
    """Return the endpoint's answer as an array, as a dict of arrays where it has several outputs.

    `inputs` is an array, tensor or list for a model of one input, else a dict by input name.
    Raises: InputError: it does not fit the signature.  EndpointNotFoundError.  EndpointError.
    """
    from nbaas.deploy.wire import decode_outputs, encode_inputs

    record = found_endpoint(settings.endpoints, name)
    manifest = read_version(settings.endpoints, name, version or record.current)
    if manifest.streams:
        hint = f"nbaas.predict({name!r}, x, stream=True), %predict --stream {name} x"
        raise InputError(f"{name} yields, its answer is a stream", hint=hint)
    header_length, body = encode_inputs(inputs, manifest.signature)
    where = f"{name}/versions/{version}" if version else name
    path = f"/v2/models/{where}/infer"
    return decode_outputs(*ask_model(settings, name, path, header_length, body, timeout))


def ask_model(
    settings: Settings, name: str, path: str, header_length: int, body: bytes, timeout: float
) -> tuple[bytes, Mapping[str, str]]:
    """Return body and headers of the answer to a request with binary tensors.

    Raises: the error that the answer tells of.
    """
    ensure_host(settings)
    headers = request_headers(settings, name, header_length)
    status, answer_headers, answer = _post(gateway_address(settings), path, headers, body, timeout)
    if status != 200:  # noqa: PLR2004 - HTTP
        raise error_of(status, answer)
    return answer, answer_headers


def request_headers(settings: Settings, name: str, header_length: int) -> dict[str, str]:
    """Return the headers of a request with binary tensors, the endpoint's token among them."""
    return {
        "Authorization": f"Bearer {token(settings, name)}",
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(header_length),
    }


def _post(
    address: tuple[str, int], path: str, headers: dict[str, str], body: bytes, timeout: float
) -> tuple[int, Mapping[str, str], bytes]:
    connection = http.client.HTTPConnection(*address, timeout=timeout)
    try:
        connection.request("POST", path, body=body, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    except (OSError, http.client.HTTPException) as lost:
        raise EndpointError(f"the gateway does not answer: {lost}", hint="%endpoints") from lost
    finally:
        connection.close()


def error_of(status: int, body: bytes) -> NbaasError:
    try:
        reason = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        reason = f"the gateway answers {status}"
    kinds: dict[int, type[NbaasError]] = {
        400: InputError,
        413: InputError,
        401: UnauthorizedError,
        404: EndpointNotFoundError,
        501: MissingPackageError,
    }
    return kinds.get(status, EndpointError)(reason)
