"""Endpoints as rows of the panel, where their gateway is, and which tokens open them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from nbaas.config import Settings
from nbaas.deploy.client import (
    EndpointStatus,
    ShareStatus,
    gateway_address,
    host_token,
    list_endpoints,
)
from nbaas.deploy.hosting import ensure_host, read_state
from nbaas.deploy.manifest import VersionManifest, read_manifest
from nbaas.deploy.registry import Token, read_endpoint, read_endpoints, version_folders
from nbaas.errors import BundleError
from nbaas.server.upstream import Address

BEARER = re.compile(r"(?:token|bearer)\s+(\S{1,512})", re.IGNORECASE)
REMEMBERED = 5.0  # seconds
RATE_WINDOW = 2.0  # seconds; a rate over less than that jumps
HISTORY = 60  # samples of traffic and latency that are kept of each endpoint


@dataclass(frozen=True, slots=True)
class InputRow:
    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class VersionRow:
    version: int
    created: float  # seconds since the epoch
    current: bool


@dataclass(frozen=True, slots=True)
class ShareRow:
    """A canary or a shadow beside the current version; `limit` 0 never withdraws it."""

    version: int
    percent: float
    limit: float
    requests: int
    errors: int
    p50_ms: float
    p99_ms: float
    replicas: int
    ready: int


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """An endpoint in a list; `path` is below the server's base URL, `url` the gateway's own."""

    name: str
    state: str
    reason: str
    version: int
    versions: tuple[VersionRow, ...]
    path: str
    url: str
    replicas: int
    ready: int
    restarts: int
    requests: int
    errors: int
    requests_per_second: float | None
    p50_ms: float
    p99_ms: float
    traffic: tuple[float, ...]  # requests a second at the last looks, oldest first
    latency: tuple[float | None, ...]  # p99 in ms then; None where nothing was asked
    inputs: tuple[InputRow, ...]
    canary: ShareRow | None
    shadow: ShareRow | None
    notice: str  # what the host did by itself, such as to withdraw a canary


def share_row(share: ShareStatus | None) -> ShareRow | None:
    if share is None:
        return None
    s = share
    return ShareRow(
        s.version, s.percent, s.limit, s.requests, s.errors, s.p50 * 1000, s.p99 * 1000,
        s.replicas, s.ready,
    )  # fmt: skip


@dataclass(slots=True)
class _Counted:
    """What was seen of an endpoint: requests at the last sample, and the samples."""

    time: float
    requests: int
    rate: float | None = None
    traffic: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))
    latency: deque[float | None] = field(default_factory=lambda: deque(maxlen=HISTORY))

    def sample(self, now: float, requests: int, p99_ms: float) -> None:
        new = requests - self.requests
        self.rate = round(new / (now - self.time), 3)
        self.traffic.append(self.rate)
        self.latency.append(round(p99_ms, 3) if new else None)
        self.time, self.requests = now, requests


class EndpointIndex:
    """What the handlers ask about endpoints; thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._manifests: dict[str, VersionManifest] = {}  # by directory: a version never changes
        self._counted: dict[str, _Counted] = {}
        self._lock = threading.Lock()

    def rows(self) -> list[EndpointRow]:
        """Return the endpoints by name; nothing is started by looking."""
        return [self._row(status) for status in list_endpoints(self._settings)]

    def _row(self, status: EndpointStatus) -> EndpointRow:
        counted = self._count(status, time.monotonic())
        manifests = self._versions(status.name)
        current = manifests.get(status.version)
        inputs = current.signature.inputs if current else ()
        return EndpointRow(
            name=status.name,
            state=status.state,
            reason=status.reason,
            version=status.version,
            versions=tuple(
                VersionRow(number, manifest.created, number == status.version)
                for number, manifest in manifests.items()
            ),
            path=f"nbaas/v2/models/{status.name}/infer",
            url=status.url,
            replicas=status.replicas,
            ready=status.ready,
            restarts=status.restarts,
            requests=status.requests,
            errors=status.errors,
            requests_per_second=counted.rate,
            p50_ms=status.p50 * 1000,
            p99_ms=status.p99 * 1000,
            traffic=tuple(counted.traffic),
            latency=tuple(counted.latency),
            inputs=tuple(InputRow(i.name, i.datatype, i.shape) for i in inputs),
            canary=share_row(status.canary),
            shadow=share_row(status.shadow),
            notice=status.notice,
        )

    def _versions(self, name: str) -> dict[int, VersionManifest]:
        """Return the manifests by number; a damaged one is left out of the list."""
        found = {}
        for number, folder in version_folders(self._settings.endpoints, name).items():
            manifest = self._manifests.get(str(folder))
            if manifest is None:
                try:
                    manifest = read_manifest(folder)
                except BundleError:
                    continue
                self._manifests[str(folder)] = manifest
            found[number] = manifest
        return found

    def _count(self, status: EndpointStatus, now: float) -> _Counted:
        """Return the endpoint's traffic so far, a sample richer where the last one is old enough."""
        with self._lock:
            counted = self._counted.get(status.name)
            if counted is None or status.requests < counted.requests:  # new, or counted anew
                counted = self._counted[status.name] = _Counted(now, status.requests)
            elif now - counted.time >= RATE_WINDOW:
                counted.sample(now, status.requests, status.p99 * 1000)
            return counted


async def locate(settings: Settings) -> Address:
    """Return where the gateway is; a host that ended, with endpoints to serve, is started again."""
    return await asyncio.to_thread(_located, settings)


def _located(settings: Settings) -> Address:
    if read_state(settings) is None and read_endpoints(settings.endpoints):
        ensure_host(settings)
    host, port = gateway_address(settings)
    return Address(host, port, host_token(settings))


def shown(authorization: str, tokens: Sequence[Token], now: float) -> bool:
    """Return whether the header shows one of an endpoint's tokens that has not expired."""
    match = BEARER.fullmatch(authorization)
    if match is None:
        return False
    digest = hashlib.sha256(match[1].encode()).hexdigest()
    valid = [t for t in tokens if not t.expires or now < t.expires]
    return any(hmac.compare_digest(digest, token.hash) for token in valid)


class TokenCheck:
    """Remembers for a few seconds which tokens were good; the gateway checks each again."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._good: dict[tuple[str, str], float] = {}

    async def shows(self, name: str, authorization: str) -> bool:
        """Return whether the header shows a token of the endpoint `name`."""
        now = time.monotonic()
        if self._good.get((name, authorization), 0.0) > now:
            return True
        tokens = await asyncio.to_thread(_tokens, self._settings, name)
        good = shown(authorization, tokens, time.time())
        if good:
            self._good = {key: until for key, until in self._good.items() if until > now}
            self._good[name, authorization] = now + REMEMBERED
        return good


def _tokens(settings: Settings, name: str) -> tuple[Token, ...]:
    return read_endpoint(settings.endpoints, name).tokens
