"""What the gateway serves at a moment: endpoints, their versions, tokens and paths."""

from __future__ import annotations

import hashlib
import random
import zlib
from dataclasses import dataclass, field
from typing import Any

from nbaas.deploy.admission import Grant
from nbaas.deploy.frames import EXPLAIN, PLAIN, STREAM
from nbaas.deploy.links import Pool
from nbaas.deploy.messages import Request


@dataclass(slots=True)
class Version:
    """One version with its replicas; `head` are the header lines of its answers."""

    name: str
    number: str
    pool: Pool
    metadata: dict[str, Any]
    head: bytes
    asleep: bool = False  # no replica until somebody asks
    woken: bool = False  # the host has been told
    failed: str = ""  # why no replica will come
    streams: bool = False  # it yields
    items: int = 0  # of one stream at most

    @property
    def ready(self) -> bool:
        return self.pool.ready or self.asleep


@dataclass(slots=True)
class Endpoint:
    """What the table says about one endpoint."""

    name: str
    tokens: list[Grant]
    versions: dict[str, Version]
    current: str
    max_body: int
    canary: tuple[str, float] | None = None
    shadow: tuple[str, float] | None = None
    origins: frozenset[bytes] = frozenset()  # whose pages may ask
    facts: dict[str, Any] = field(default_factory=dict)

    def chosen(self, request: Request) -> Version | None:
        """Return the version for a request that names none: the current one, or the canary."""
        if self.canary is not None and self.canary[0] in self.versions:
            wish = request.headers.get(b"x-nbaas-canary", b"").lower()
            key = request.headers.get(b"x-nbaas-key")
            if wish == b"always" or (wish != b"never" and self._drawn(key, self.canary[1])):
                return self.versions[self.canary[0]]
        return self.versions.get(self.current)

    def shadowed(self) -> Version | None:
        """Return the version that is to see a copy of a request; None for most, mostly."""
        if self.shadow is None or not self._drawn(None, self.shadow[1]):
            return None
        return self.versions.get(self.shadow[0])

    def _drawn(self, key: bytes | None, percent: float) -> bool:
        """Whether the canary takes this one; a key always falls on the same side."""
        share = random.random() if key is None else (zlib.crc32(key) % 10_000) / 10_000  # noqa: S311
        return share * 100 < percent


@dataclass(slots=True)
class Target:
    """What a path of the hot routes means."""

    endpoint: Endpoint
    version: str  # empty: chosen by the endpoint
    flags: int


def hot_paths(endpoint: Endpoint) -> dict[bytes, Target]:
    """Return the hot paths of one endpoint."""
    base = f"/v2/models/{endpoint.name}"
    found = {
        f"{base}/infer": Target(endpoint, "", 0),
        f"{base}/explain": Target(endpoint, "", EXPLAIN),
        f"{base}/infer_stream": Target(endpoint, "", STREAM),
        f"/predict/{endpoint.name}": Target(endpoint, "", PLAIN),
        f"/predict/{endpoint.name}/stream": Target(endpoint, "", PLAIN | STREAM),
    }
    for number in endpoint.versions:
        found[f"{base}/versions/{number}/infer"] = Target(endpoint, number, 0)
        found[f"{base}/versions/{number}/explain"] = Target(endpoint, number, EXPLAIN)
        found[f"{base}/versions/{number}/infer_stream"] = Target(endpoint, number, STREAM)
        plain = f"/predict/{endpoint.name}/versions/{number}"
        found[plain] = Target(endpoint, number, PLAIN)
        found[f"{plain}/stream"] = Target(endpoint, number, PLAIN | STREAM)
    return {path.encode(): target for path, target in found.items()}


def bearer_digest(request: Request) -> bytes | None:
    """Return the SHA-256 of the bearer token; None where there is none."""
    if request.digest is not None:
        return request.digest
    scheme, _, token = request.headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer" or not token:
        return None
    request.digest = hashlib.sha256(token.strip()).digest()
    return request.digest
