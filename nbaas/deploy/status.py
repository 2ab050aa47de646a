"""How endpoints stand, as the host describes them: records for lists, panels and magics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from nbaas.errors import UsageError
from nbaas.records import from_json

WHOLE = 100  # percent


@dataclass(frozen=True, slots=True)
class Shares:
    """What a version gets at its deployment, in percent; all 0: every request."""

    canary: float = 0.0
    shadow: float = 0.0
    limit: float = 0.0

    def check(self) -> None:
        """Refuse shares that make no sense.  Raises: UsageError."""
        for flag, percent in (
            ("canary", self.canary),
            ("shadow", self.shadow),
            ("limit", self.limit),
        ):
            if not 0 <= percent <= WHOLE:
                raise UsageError(f"{flag} {percent:g} is no share", hint="0 to 100 percent")
        if self.canary and self.shadow:
            raise UsageError("a version is a canary or a shadow, not both", hint="leave one out")
        if self.limit and not self.canary:
            raise UsageError("a limit is for canaries", hint="--canary 10 --limit 5")

    def __str__(self) -> str:
        if self.shadow:
            return f"sees copies of {self.shadow:g} % of the requests"
        limit = f", withdrawn at over {self.limit:g} % of errors" if self.limit else ""
        return f"gets {self.canary or WHOLE:g} % of the requests{limit}"


@dataclass(frozen=True, slots=True)
class ShareStatus:
    """A canary or a shadow: its share of the requests, and what became of them; seconds."""

    version: int
    percent: float
    limit: float = 0.0  # percentage of 5xx answers at which it is withdrawn; 0: never
    requests: int = 0
    errors: int = 0
    p50: float = 0.0
    p99: float = 0.0
    replicas: int = 0
    ready: int = 0

    def counted(self) -> str:
        """Return what became of its requests, in words."""
        if not self.requests:
            return "no request yet"
        p50, p99 = 1000 * self.p50, 1000 * self.p99
        return f"{self.requests} requests, {self.errors} errors, p50 {p50:.1f} ms, p99 {p99:.1f} ms"


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """One line of %endpoints."""

    name: str
    version: int
    state: str  # READY | STARTING | FAILED | STOPPED
    url: str
    replicas: int = 0
    ready: int = 0
    restarts: int = 0
    requests: int = 0
    errors: int = 0
    p50: float = 0.0  # seconds
    p99: float = 0.0
    reason: str = ""
    canary: ShareStatus | None = None
    shadow: ShareStatus | None = None
    notice: str = ""  # what the host did by itself, such as to withdraw a canary

    def split(self) -> str:
        """Return how its requests are split among versions, in words."""
        lines = [f"{self.name}: version {self.version} gets all requests"]
        if (canary := self.canary) is not None:
            until = f", withdrawn at over {canary.limit:g} % of errors" if canary.limit else ""
            lines = [
                f"{self.name}: version {self.version} gets {WHOLE - canary.percent:g} % of the requests",
                f"  canary {canary.version} gets {canary.percent:g} %{until}: {canary.counted()}",
            ]
        if (shadow := self.shadow) is not None:
            lines.append(f"  shadow {shadow.version} sees {shadow.percent:g} %: {shadow.counted()}")
        return "\n".join([*lines, *([f"  {self.notice}"] if self.notice else [])])


def status_of(entry: dict[str, Any], base: str) -> EndpointStatus:
    """Return the status in the host's description `entry`; `base` is the gateway's URL."""
    counts = entry["counts"].get(str(entry["version"]), {})
    shares = {
        role: from_json(ShareStatus, {**entry["counts"].get(str(share["version"]), {}), **share})
        for role in ("canary", "shadow")
        if (share := entry.pop(role, None))
    }
    url = f"{base}/v2/models/{entry['name']}/infer{'_stream' if entry.get('streams') else ''}"
    status = from_json(EndpointStatus, {**counts, **entry, "url": url})
    return replace(status, canary=shares.get("canary"), shadow=shares.get("shadow"))
