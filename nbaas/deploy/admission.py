"""Who may ask an endpoint, how often, and from which pages: tokens, rates and origins."""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass

METHODS = b"Access-Control-Allow-Methods: POST, GET, OPTIONS\r\n"
HEADERS = (
    b"Access-Control-Allow-Headers: Authorization, Content-Type, Content-Encoding, "
    b"Inference-Header-Content-Length, X-Request-Id, X-Nbaas-Canary, X-Nbaas-Key\r\n"
)
PREFLIGHT = METHODS + HEADERS + b"Access-Control-Max-Age: 600\r\n"
EXPOSED = (
    b"Access-Control-Expose-Headers: "
    b"Inference-Header-Content-Length, X-Nbaas-Version, X-Request-Id, Retry-After\r\n"
)


@dataclass(slots=True)
class Bucket:
    """Requests that a token may still send now; holds one second of its rate, at least one."""

    left: float
    at: float  # when it was last looked at

    def wait(self, now: float, rate: float) -> float:
        """Take one request; return 0.0, or the seconds until there is one again."""
        self.left = min(max(1.0, rate), self.left + (now - self.at) * rate)
        self.at = now
        if self.left < 1.0:
            return (1.0 - self.left) / rate
        self.left -= 1.0
        return 0.0


@dataclass(frozen=True, slots=True)
class Grant:
    """A token of an endpoint as the gateway knows it."""

    digest: bytes  # SHA-256
    expires: float  # seconds since the epoch; 0: never
    rate: float  # requests a second; 0: no limit


def granted(grants: list[Grant], digest: bytes) -> Grant | None:
    """Return the token of this digest that opens an endpoint now; constant time in the digest."""
    for grant in grants:
        if hmac.compare_digest(digest, grant.digest):
            return grant if not grant.expires or time.time() < grant.expires else None
    return None


def allow_origin(origins: frozenset[bytes], origin: bytes) -> bytes:
    """Return the header lines that let a page of `origin` read the answer; empty where it may not."""
    if b"*" in origins:
        return b"Access-Control-Allow-Origin: *\r\n" + EXPOSED
    if origin in origins:
        return b"Access-Control-Allow-Origin: %b\r\nVary: Origin\r\n" % origin + EXPOSED
    return b""
