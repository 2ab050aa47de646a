"""The process that clients speak to: HTTP in, frames to the replicas; never imports torch or numpy.

Run by the endpoint host as
`python -m nbaas.deploy.gateway LISTEN CONTROL LIFELINE PARENT [SECURE CERT KEY]`.  The listening
sockets and the control socket are inherited.  The host sends the whole table of routes at every
change, one JSON line; the gateway answers with what it has applied and drained.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from nbaas.deploy.admission import PREFLIGHT, Bucket, Grant, allow_origin, granted
from nbaas.deploy.counters import Counters, scraped
from nbaas.deploy.doors import Door, serve
from nbaas.deploy.exchanges import NOBODY, Exchange, StreamExchange
from nbaas.deploy.frames import DEFLATE, EXPLAIN, GZIP, STREAM
from nbaas.deploy.heads import Heads
from nbaas.deploy.http import Connection
from nbaas.deploy.links import Link, Pool
from nbaas.deploy.messages import JSON, NO_SNIFF, Answer, Request, error_body
from nbaas.deploy.routes import answer_route
from nbaas.deploy.table import Endpoint, Target, Version, bearer_digest, hot_paths
from nbaas.deploy.tls import Tls

SWEEP = 0.5  # seconds
DRAIN_POLL = 0.02
IDLE_TIMEOUT = 75.0
READ_TIMEOUT = 30.0
SMALL_BODY = 1 << 20  # of requests that carry no tensors


class Gateway:
    """The table of routes and what it does with a request."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, tell: Callable[[dict[str, Any]], None]
    ) -> None:
        self.loop = loop
        self.tell = tell
        self.endpoints: dict[str, Endpoint] = {}
        self.targets: dict[bytes, Target] = {}
        self.heads = Heads()
        self.buckets: dict[tuple[str, bytes], Bucket] = {}
        self.host_token = b""  # SHA-256 of the token that may see everything
        self.connections: set[Connection] = set()
        self.retired: set[Pool] = set()
        self.draining = False

    # ------------------------------------------------------------ the table

    def apply(self, table: dict[str, Any]) -> None:
        """Take over a whole new table; versions that stay keep their links, queues and counters."""
        self.heads.clear()
        self.host_token = bytes.fromhex(table["token"])
        old = {(e.name, v.number): v for e in self.endpoints.values() for v in e.versions.values()}
        self.endpoints = {
            name: self._endpoint(name, entry, old) for name, entry in table["endpoints"].items()
        }
        known = {(e.name, t.digest) for e in self.endpoints.values() for t in e.tokens}
        self.buckets = {key: bucket for key, bucket in self.buckets.items() if key in known}
        kept = {(e.name, v.number) for e in self.endpoints.values() for v in e.versions.values()}
        for key, version in old.items():
            if key not in kept:
                self._retire(version)
        self.targets = {
            path: target for e in self.endpoints.values() for path, target in hot_paths(e).items()
        }

    def _endpoint(
        self, name: str, entry: dict[str, Any], old: dict[tuple[str, str], Version]
    ) -> Endpoint:
        versions = {}
        for number, described in entry["versions"].items():
            version = old.get((name, number)) or self._version(name, number, described)
            version.pool.queue, version.pool.timeout = described["queue"], described["timeout"]
            wanted = {r["path"]: r["credits"] for r in described["replicas"]}
            version.asleep, version.failed = described["asleep"], described["failed"]
            version.woken = version.woken and version.asleep
            version.pool.set_links(wanted, self._drained)
            version.pool.dispatch()
            versions[number] = version
        return Endpoint(
            name=name,
            tokens=[
                Grant(bytes.fromhex(t["hash"]), t["expires"], t["rate"]) for t in entry["tokens"]
            ],
            origins=frozenset(
                origin.strip().encode() for origin in entry["cors"].split(",") if origin
            ),
            versions=versions,
            current=entry["current"],
            max_body=entry["max_body"],
            canary=_share(entry.get("canary")),
            shadow=_share(entry.get("shadow")),
        )

    def _version(self, name: str, number: str, described: dict[str, Any]) -> Version:
        pool = Pool(self.loop, Counters(), queue=described["queue"], timeout=described["timeout"])
        head = NO_SNIFF + b"X-Nbaas-Version: %b\r\n" % number.encode()
        version = Version(name, number, pool, described["metadata"], head)
        version.streams, version.items = described["streams"], described["items"]
        return version

    def _retire(self, version: Version) -> None:
        """Let a version answer what it has; no new request reaches it."""
        self.retired.add(version.pool)
        version.pool.retire(self._drained)

    def _drained(self, link: Link) -> None:
        self.tell({"drained": link.path})

    # ------------------------------------------------------------ by the head

    def admit(self, request: Request) -> Answer | None:
        """Return the refusal of a request by its head; None where its body may come."""
        length = request.headers.get(b"content-length", b"0")
        target = self.targets.get(request.url)
        if target is None:
            request.limit = SMALL_BODY
        elif target.endpoint.origins and (shared := self._to_page(request, target.endpoint)):
            return shared
        elif request.method != b"POST":
            return _error(405, f"{request.method.decode()} is not for this route; POST is")
        else:
            request.plan = target
            request.limit = target.endpoint.max_body
            if (refusal := self.readmit(request)) is not None:
                return refusal
        if not length.isdigit() or int(length) > request.limit:
            return _error(413, f"the body is over {request.limit} bytes")
        return None

    def readmit(self, request: Request) -> Answer | None:
        """Return the refusal of an inference by what changes with time: token, queue."""
        target: Target = request.plan
        digest = bearer_digest(request)
        if digest is None:
            return _unauthorized()
        if not hmac.compare_digest(digest, self.host_token):
            grant = granted(target.endpoint.tokens, digest)
            if grant is None:
                return _unauthorized()
            if grant.rate and (wait := self._wait(target.endpoint, grant)):
                return _too_many(grant.rate, wait)
        return self._overload(request, target)

    def _wait(self, endpoint: Endpoint, grant: Grant) -> float:
        """Return the seconds until this token may ask again; 0.0 now, and one request is taken."""
        now = self.loop.time()
        key = endpoint.name, grant.digest
        if key not in self.buckets:
            self.buckets[key] = Bucket(max(1.0, grant.rate), now)
        return self.buckets[key].wait(now, grant.rate)

    def _to_page(self, request: Request, endpoint: Endpoint) -> Answer | None:
        """Let pages of the endpoint's origins read its answers; return that of a preflight."""
        origin = request.headers.get(b"origin")
        if origin is None:
            return None
        request.extra += allow_origin(endpoint.origins, origin)
        return Answer(200, b"", PREFLIGHT) if request.method == b"OPTIONS" else None

    def allowed(self, request: Request, endpoint: Endpoint | None) -> bool:
        """Whether the bearer token is one of the endpoint's or the host's."""
        digest = bearer_digest(request)
        if digest is None:
            return False
        if hmac.compare_digest(digest, self.host_token):
            return True
        return endpoint is not None and granted(endpoint.tokens, digest) is not None

    def _overload(self, request: Request, target: Target) -> Answer | None:
        version = self._version_of(request, target)
        if version is None:
            return _error(404, f"{target.endpoint.name} has no version {target.version}")
        if self.draining or version.pool.full():
            reason = "the gateway is closing" if self.draining else "too many requests wait"
            version.pool.counters.request(503, 0.0)
            return _busy(reason, version.pool.expected_wait())
        if version.failed and not version.pool.links:
            version.pool.counters.request(503, 0.0)
            return _busy(f"{version.name} {version.number} has failed: {version.failed}", 30.0)
        if version.asleep and not version.woken:
            version.woken = True
            self.tell({"wake": [version.name, int(version.number)]})
        return None

    def _version_of(self, request: Request, target: Target) -> Version | None:
        if target.version:
            return target.endpoint.versions.get(target.version)
        return target.endpoint.chosen(request)

    # ------------------------------------------------------------ with the body

    def handle(self, connection: Connection, request: Request) -> None:
        """Send an inference to a replica, or answer one of the other routes."""
        target: Target | None = request.plan
        if target is None:
            connection.respond(answer_route(self, request))
            return
        version = self._version_of(request, target)
        if version is None:  # withdrawn while the body came
            connection.respond(
                _error(404, f"{target.endpoint.name} has no version {target.version}")
            )
            return
        if version.streams != bool(target.flags & STREAM):
            connection.respond(_other_route(version, target))
            return
        headers = request.headers
        flags, header_length = target.flags, -1
        if b"inference-header-content-length" in headers:
            text = headers[b"inference-header-content-length"]
            if not text.isdigit() or len(text) > 9:  # noqa: PLR2004 - digits of a length
                connection.respond(_error(400, "Inference-Header-Content-Length is no length"))
                return
            header_length = int(text)
        if b"content-encoding" in headers:
            encoding = _ENCODINGS.get(headers[b"content-encoding"].lower())
            if encoding is None:
                connection.respond(_error(415, "Content-Encoding can be gzip or deflate"))
                return
            flags |= encoding
        body = request.body[0] if len(request.body) == 1 else b"".join(request.body)
        started = self.loop.time()
        given = connection, flags, header_length, body, version.head, started
        exchange = StreamExchange(version.items, *given) if flags & STREAM else Exchange(*given)
        connection.exchange = exchange
        version.pool.submit(exchange)
        if target.endpoint.shadow is not None and not target.version:
            self._copy(target.endpoint, exchange)

    def _copy(self, endpoint: Endpoint, asked: Exchange) -> None:
        """Let the shadow see a request too; never at the cost of those that wait for answers."""
        shadow = endpoint.shadowed()
        streams = bool(asked.flags & STREAM)
        if shadow is not None and shadow.streams == streams and not shadow.pool.full():
            given = NOBODY, asked.flags, asked.header_length, asked.body, b"", asked.started
            shadow.pool.submit(
                StreamExchange(shadow.items, *given) if streams else Exchange(*given)
            )

    # ------------------------------------------------------------ housekeeping

    def sweep(self) -> None:
        now = self.loop.time()
        for endpoint in self.endpoints.values():
            for version in endpoint.versions.values():
                version.pool.expire(now)
        for pool in list(self.retired):
            pool.expire(now)
            if not pool.links:
                self.retired.discard(pool)
        for connection in list(self.connections):
            connection.sweep(now, idle=IDLE_TIMEOUT, reading=READ_TIMEOUT)
        self.loop.call_later(SWEEP, self.sweep)

    def metrics(self) -> bytes:
        return scraped(
            (
                e.name,
                v.number,
                v.pool.counters,
                v.pool.outstanding,
                sum(link.ready for link in v.pool.links.values()),
            )
            for e in self.endpoints.values()
            for v in e.versions.values()
        )

    def stats(self) -> dict[str, Any]:
        return {
            e.name: {n: v.pool.counters.to_json() | v.pool.load() for n, v in e.versions.items()}
            for e in self.endpoints.values()
        }

    async def drain(self, grace: float) -> None:
        """Refuse what is new, answer what is in flight, at most `grace` seconds."""
        self.draining = True
        deadline = self.loop.time() + grace
        for connection in list(self.connections):
            connection.close_when_idle()
        while self.loop.time() < deadline and any(c.busy for c in self.connections):  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_POLL)
        for connection in list(self.connections):
            connection.break_off("the gateway is closing")


def _other_route(version: Version, target: Target) -> Answer:
    """Return the refusal of a request by a route that is not for this kind of model."""
    base = f"/v2/models/{version.name}"
    if version.streams:
        what = "cannot be explained" if target.flags & EXPLAIN else "answers item by item"
        routes = f"POST {base}/infer_stream or /predict/{version.name}/stream"
        return _error(400, f"{version.name} yields, and {what}: {routes}")
    routes = f"POST {base}/infer or /predict/{version.name}"
    return _error(400, f"{version.name} does not yield, and answers at once: {routes}")


def _share(entry: dict[str, Any] | None) -> tuple[str, float] | None:
    return (str(entry["version"]), entry["percent"]) if entry else None


_ENCODINGS = {b"gzip": GZIP, b"deflate": DEFLATE, b"identity": 0}


def _error(status: int, reason: str) -> Answer:
    return Answer(status, error_body(reason))


def _busy(reason: str, seconds: float) -> Answer:
    """Refuse for now; `seconds` are when to come again."""
    after = max(1, round(seconds))
    return Answer(503, error_body(reason), JSON + b"Retry-After: %d\r\n" % after)


def _too_many(rate: float, seconds: float) -> Answer:
    body = error_body(f"this token may ask {rate:g} times a second")
    return Answer(429, body, JSON + b"Retry-After: %d\r\n" % max(1, round(seconds)))


def _unauthorized() -> Answer:
    body = error_body("a token of this endpoint is needed: Authorization: Bearer ...")
    return Answer(401, body, JSON + b"WWW-Authenticate: Bearer\r\n")


def main(argv: list[str]) -> None:
    listen, control, lifeline, parent = map(int, argv[1:5])
    from nbaas.worker.guard import die_with_parent, hold_lifeline

    die_with_parent(parent)
    hold_lifeline(lifeline)
    os.umask(0o077)
    with contextlib.suppress(ImportError):  # plain asyncio serves as well, at 4/5 of the rate
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    doors: list[Door] = [(socket.socket(fileno=listen), None)]
    if len(argv) > 5:  # noqa: PLR2004 - SECURE CERT KEY
        doors.append((socket.socket(fileno=int(argv[5])), Tls(argv[6], argv[7])))
    for listener, _ in doors:
        listener.setblocking(False)  # noqa: FBT003 - positional only
    channel = socket.socket(fileno=control)
    channel.setblocking(False)  # noqa: FBT003
    asyncio.run(serve(Gateway, doors, channel))


if __name__ == "__main__":
    main(sys.argv)
