"""What clients may ask of the endpoint host, by name; each answers a JSON object."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from nbaas._version import __version__
from nbaas.deploy.fleet import Fleet
from nbaas.deploy.registry import Canary, EndpointRecord, Options, discard, version_folders
from nbaas.errors import DeployError, NbaasError, UsageError
from nbaas.records import from_json, to_json

if TYPE_CHECKING:
    from nbaas.deploy.endpoints import Host

WHOLE = 100  # percent


async def ping(host: Host, request: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - an operation
    return {"pid": os.getpid(), "version": __version__}


async def deploy(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Serve a published version: its replicas are started, then it takes over, or its share."""
    name, version = request["name"], int(request["version"])
    options = from_json(Options, request["options"])
    percent, shadow = float(request.get("canary") or 0), float(request.get("shadow") or 0)
    try:
        share = Canary(version, _percent(percent or shadow), _percent(request.get("limit") or 0))
        record = host.ledger.served(name) if percent or shadow else None
        fleet = host.new_fleet(name, version, options)
        if record is not None:
            _check_kind(host, record, fleet)
        await fleet.start()
    except NbaasError:
        discard(host.settings.endpoints, name, version)
        raise
    if percent or shadow:
        await host.share(name, fleet, share, shadow=bool(shadow))
    else:
        await host.take_over(name, fleet, options)
    return described(host, name)


def _check_kind(host: Host, record: EndpointRecord, fleet: Fleet) -> None:
    """Refuse a share to a version that is asked by other routes than the current one."""
    current = host.fleets.get((record.name, record.current))
    if current is not None and current.manifest.streams != fleet.manifest.streams:
        what = "yields" if fleet.manifest.streams else "does not yield"
        raise DeployError(
            f"version {fleet.version} {what}, unlike version {record.current}: no request fits both",
            hint="deploy it without a share",
        )


def _percent(value: Any) -> float:
    percent = float(value)
    if not 0 <= percent <= WHOLE:
        raise UsageError(f"{percent:g} is no share", hint="0 to 100 percent")
    return percent


async def rollback(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Serve another version: the one asked for, or the one before; a canary is withdrawn first."""
    record = host.ledger.served(request["name"])
    if record.canary and not request.get("version"):
        await host.share(record.name, None, None)
        return {**described(host, record.name), "withdrawn": record.canary.version}
    version = int(request.get("version") or record.previous)
    if not version:
        known = ", ".join(map(str, version_folders(host.settings.endpoints, record.name)))
        raise DeployError(
            f"{record.name} has no version before {record.current}", hint=f"versions: {known}"
        )
    if version == record.current:
        raise DeployError(f"{record.name} serves version {version} already")
    fleet = await _started(host, record.name, version, record.options)
    await host.take_over(record.name, fleet, record.options)
    return described(host, record.name)


async def _started(host: Host, name: str, version: int, options: Options) -> Fleet:
    """Return the fleet of a version, which may be serving a share already."""
    fleet = host.fleets.get((name, version))
    if fleet is None:
        fleet = host.new_fleet(name, version, options)
        await fleet.start()
    return fleet


async def canary(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Change the share of a canary or a shadow: 0 withdraws it, a canary's 100 makes it current."""
    record = host.ledger.served(request["name"])
    percent, shadow = _percent(request["percent"]), bool(request.get("shadow"))
    before = record.shadow if shadow else record.canary
    version = int(request.get("version") or (before.version if before else 0))
    if not version or version == record.current:
        flag = "--shadow 100" if shadow else "--canary 10"
        what = "shadow" if shadow else "canary"
        raise DeployError(f"{record.name} has no {what}", hint=f"%deploy model {flag} makes one")
    if percent == 0:
        await host.share(record.name, None, None, shadow=shadow)
        return described(host, record.name)
    fleet = await _started(host, record.name, version, record.options)
    if percent != WHOLE or shadow:
        _check_kind(host, record, fleet)
    if percent == WHOLE and not shadow:
        await host.take_over(record.name, fleet, record.options)
    else:
        limit = request.get("limit")
        kept = before.limit if before and before.version == version else 0.0
        share = Canary(version, percent, kept if limit is None else _percent(limit))
        await host.share(record.name, fleet, share, shadow=shadow)
    return described(host, record.name)


async def undeploy(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Stop serving an endpoint; its versions stay on the disk."""
    record = host.ledger.served(request["name"])
    host.ledger.remove(record.name)
    await host.withdraw([fleet for (name, _), fleet in host.fleets.items() if name == record.name])
    return {"name": record.name}


async def describe(host: Host, request: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """Return every endpoint with the counts of the gateway."""
    stats = await host.front.stats()
    return {
        "endpoints": [
            {**described(host, name), "counts": stats.get(name, {})}
            for name in sorted(host.ledger.records)
        ],
        "gateway": {
            "restarts": host.front.restarts,
            "pid": host.front.child.pid if host.front.child else 0,
        },
    }


async def token_create(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    """Return a new token with its value, for the only time."""
    name = host.ledger.served(request["name"]).name
    lifetime = float(request.get("lifetime") or 0)
    expires = time.time() + lifetime if lifetime else 0.0
    rate = float(request.get("rate") or 0)
    token, value = host.ledger.new_token(name, str(request.get("label", "")), expires, rate)
    await host.front.push()
    return {**_shown(to_json(token)), "value": value}


async def token_list(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    record = host.ledger.served(request["name"])
    return {"tokens": [_shown(to_json(token)) for token in record.tokens]}


async def token_revoke(host: Host, request: dict[str, Any]) -> dict[str, Any]:
    host.ledger.revoke(request["name"], str(request["id"]))
    await host.front.push()
    return {}


def _shown(token: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in token.items() if key != "hash"}


async def shutdown(host: Host, request: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    host.stopped.set()
    return {}


def described(host: Host, name: str) -> dict[str, Any]:
    """Return how an endpoint stands."""
    record = host.ledger.records[name]
    fleet = host.fleets.get((name, record.current))
    return {
        "name": name,
        "version": record.current,
        "previous": record.previous,
        "state": fleet.state() if fleet else "FAILED",
        "reason": fleet.reason() if fleet else "its version cannot be read",
        "canary": _described_share(host, name, record.canary),
        "shadow": _described_share(host, name, record.shadow),
        "notice": record.notice,
        **(_fleet_facts(fleet) if fleet else {}),
    }


def _described_share(host: Host, name: str, share: Canary | None) -> dict[str, Any] | None:
    if share is None:
        return None
    fleet = host.fleets.get((name, share.version))
    return {**to_json(share), **(_fleet_facts(fleet) if fleet else {})}


def _fleet_facts(fleet: Fleet) -> dict[str, Any]:
    return {
        "streams": fleet.manifest.streams,
        "replicas": len(fleet.replicas),
        "ready": fleet.ready,
        "restarts": sum(replica.restarts for replica in fleet.replicas),
        "max_batch": max((replica.max_batch for replica in fleet.replicas), default=0),
        "pids": [r.child.pid for r in fleet.replicas if r.child is not None and r.ready],
    }


Operation = Callable[["Host", dict[str, Any]], Awaitable[dict[str, Any]]]
OPERATIONS: dict[str, Operation] = {
    "ping": ping,
    "deploy": deploy,
    "rollback": rollback,
    "canary": canary,
    "undeploy": undeploy,
    "describe": describe,
    "token_create": token_create,
    "token_list": token_list,
    "token_revoke": token_revoke,
    "shutdown": shutdown,
}
