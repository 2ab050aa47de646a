"""What comes in and goes out on the control routes: bodies, answers, limits of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from nbaas.server.endpoints import EndpointRow, ShareRow
from nbaas.server.hosts import FactRow, HostRow, OtherHost
from nbaas.server.jobs import JobRow

MOST_JOBS = 10_000
MOST_POINTS = 5_000
MOST_RANKS = 4096
MOST_BYTES = 1 << 50
MOST_VERSIONS = 10**9
DAY = 86_400.0  # seconds


# JSON knows one kind of number: 2.0 is 2.
Version = Annotated[float, msgspec.Meta(ge=1, le=MOST_VERSIONS, multiple_of=1)]


class Grace(msgspec.Struct, forbid_unknown_fields=True):
    """Seconds from the request to stop until ranks that do not listen are killed."""

    grace: Annotated[float, msgspec.Meta(ge=0, le=DAY)] | None = None


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """The version to serve; none is the one before."""

    version: Version | None = None


class Split(msgspec.Struct, forbid_unknown_fields=True):
    """A canary's share of the requests: 0 withdraws it, 100 makes it the current version."""

    percent: Annotated[float, msgspec.Meta(ge=0, le=100)]
    version: Version | None = None  # none: the present canary
    limit: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None  # percent of 5xx; 0: never
    shadow: bool = False  # the shadow's copies instead


class NewToken(msgspec.Struct, forbid_unknown_fields=True):
    """A token to make: seconds until it expires, requests a second; 0 is no limit."""

    label: Annotated[str, msgspec.Meta(max_length=100)] = ""
    lifetime: Annotated[float, msgspec.Meta(ge=0, le=10**9)] = 0.0
    rate: Annotated[float, msgspec.Meta(ge=0, le=10**9)] = 0.0


class Revoked(msgspec.Struct, forbid_unknown_fields=True):
    """The token to make worthless."""

    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}$")]


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request that has nothing to say."""


@dataclass(frozen=True, slots=True)
class Jobs:
    """`finished` is how many have ended in all."""

    jobs: list[JobRow]
    finished: int


@dataclass(frozen=True, slots=True)
class Hosts:
    """This host, and those of config.toml."""

    hosts: list[HostRow]
    others: list[OtherHost]


@dataclass(frozen=True, slots=True)
class Checked:
    facts: list[FactRow]


@dataclass(frozen=True, slots=True)
class Opened:
    name: str
    token: str


@dataclass(frozen=True, slots=True)
class Endpoints:
    endpoints: list[EndpointRow]


@dataclass(frozen=True, slots=True)
class Named:
    name: str


@dataclass(frozen=True, slots=True)
class Served:
    name: str
    version: int


@dataclass(frozen=True, slots=True)
class Shared:
    """The current version of an endpoint and those beside it."""

    name: str
    version: int
    canary: ShareRow | None
    shadow: ShareRow | None


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token without its value; seconds since the epoch, `expires` 0 never, `rate` 0 no limit."""

    id: str
    label: str
    created: float
    expires: float
    rate: float


@dataclass(frozen=True, slots=True)
class Tokens:
    tokens: list[TokenRow]


@dataclass(frozen=True, slots=True)
class Made:
    """A token that has just been made; its `value` is told this once."""

    token: TokenRow
    value: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """What every status from 400 on answers with: what is wrong, and the way out."""

    kind: str
    error: str
    hint: str
