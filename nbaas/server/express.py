"""The short way of a prediction: no handler is made for what one has just let in.

Most of a small prediction's time in a Jupyter server goes into handlers: cookies, XSRF, identity,
headers.  Rules: the whole way decides, this one only remembers, for seconds, what it decided about
the very same path, host and Authorization header.  It is taken by requests without a cookie, a
query or a mark of a browser, and only where jupyter-server's own identity provider and authorizer
are in charge: any other is asked each time.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import lru_cache
from http.client import responses
from typing import Any, cast

import msgspec
from jupyter_server.auth.authorizer import AllowAllAuthorizer, Authorizer
from jupyter_server.auth.identity import IdentityProvider, PasswordIdentityProvider, User
from tornado import httputil, iostream, routing, web

from nbaas.errors import NbaasError
from nbaas.server.upstream import Call, Connection, Header, Pool

SMALL = 1 << 20  # bytes; a longer body is passed on as it comes
REMEMBERED = 5.0  # seconds
MOST = 1024  # decisions that are remembered
PASSED_ON = (
    "Accept",
    "Content-Encoding",
    "Content-Type",
    "Inference-Header-Content-Length",
    "X-Nbaas-Canary",
    "X-Nbaas-Key",
    "X-Request-Id",
)
# What is between gateway and server only, and what the server says itself.
HELD_BACK = frozenset(
    b"connection content-length date keep-alive server transfer-encoding www-authenticate".split()
)
# A browser's requests, and those that another check than the Authorization header may concern.
WHOLE_WAY = ("Cookie", "Origin", "Sec-Fetch-Site", "Transfer-Encoding", "Expect", "Upgrade")
# Exactly these classes: a subclass may decide by anything in the request.
PROVIDERS: tuple[type, ...] = (IdentityProvider, PasswordIdentityProvider)


@dataclass(frozen=True, slots=True)
class Admission:
    """What the whole way decided: who calls, what goes to the gateway, what every answer says."""

    user: Any
    target: str
    authorization: str = field(repr=False)  # of the endpoint; empty: the host's
    headers: tuple[tuple[str, str], ...]


def is_plain(request: httputil.HTTPServerRequest) -> bool:
    """Return whether the path, the host and the Authorization header say all there is to check."""
    headers = request.headers
    length = headers.get("Content-Length", "")
    return (
        request.method == "POST"
        and request.uri == request.path
        and "Authorization" in headers
        and length.isascii()
        and length.isdigit()
        and len(length) < 8  # noqa: PLR2004 - digits: more are more than SMALL
        and int(length) <= SMALL
        and not any(name in headers for name in WHOLE_WAY)
    )


def decides_alone(
    provider: IdentityProvider, authorizer: Authorizer, *, by_endpoint_token: bool
) -> bool:
    """Return whether nobody but jupyter-server's own classes and we were asked."""
    known = by_endpoint_token or type(provider) in PROVIDERS
    return known and type(authorizer) is AllowAllAuthorizer


class Admitted:
    """The decisions of the last seconds, found by a digest: no secret is compared or kept."""

    def __init__(self) -> None:
        self._found: dict[bytes, tuple[float, Admission]] = {}

    def remember(self, request: httputil.HTTPServerRequest, admission: Admission) -> None:
        now = time.monotonic()
        if len(self._found) >= MOST:
            self._found = {key: one for key, one in self._found.items() if one[0] > now}
        if len(self._found) < MOST:
            self._found[_key(request)] = now + REMEMBERED, admission

    def find(self, request: httputil.HTTPServerRequest) -> Admission | None:
        key = _key(request)
        until, admission = self._found.get(key, (0.0, None))
        if until > time.monotonic():
            return admission
        self._found.pop(key, None)
        return None


def _key(request: httputil.HTTPServerRequest) -> bytes:
    said = request.path, request.host, request.headers["Authorization"]
    return hashlib.sha256(repr(said).encode("utf-8", "surrogatepass")).digest()


def passed_on(headers: httputil.HTTPHeaders) -> tuple[Header, ...]:
    """Return the headers that go on to the gateway."""
    return tuple(
        (name.encode(), headers[name].encode("latin-1", "replace"))
        for name in PASSED_ON
        if name in headers
    )


class Express(routing.Router):
    """Stands before the application's routes; what it does not know goes on to them."""

    def __init__(self, app: web.Application, prefix: str, admitted: Admitted, pool: Pool) -> None:
        self.app, self.pool = app, pool
        self._prefix, self._admitted = prefix, admitted

    def find_handler(
        self,
        request: httputil.HTTPServerRequest,
        **_: Any,
    ) -> httputil.HTTPMessageDelegate | None:
        if not request.path.startswith(self._prefix) or not is_plain(request):
            return None
        admission = self._admitted.find(request)
        return None if admission is None else ExpressCall(self, request, admission)


class ExpressCall(httputil.HTTPMessageDelegate):
    """One request and its answer; also what the application's log asks about a request."""

    def __init__(
        self, express: Express, request: httputil.HTTPServerRequest, admission: Admission
    ) -> None:
        self.request = request
        self.settings = express.app.settings
        self.current_user: User = admission.user
        self._express = express
        self._admission = admission
        self._connection = cast("httputil.HTTPConnection", request.connection)
        self._body: list[bytes] = []
        self._upstream: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._status = 0

    def get_status(self) -> int:
        return self._status

    # what tornado calls

    def headers_received(self, start_line: Any, headers: httputil.HTTPHeaders) -> None:
        """Nothing: the router had both."""

    def data_received(self, chunk: bytes) -> None:
        self._body.append(chunk)

    def finish(self) -> None:
        self._connection.set_close_callback(self.on_connection_close)  # type: ignore[attr-defined]
        connection = self._express.pool.take()
        if connection is None:
            self._begin(self._exchange())
            return
        self._upstream = connection
        connection.watch(self._moved)
        connection.start(self._call().head(connection.address, self._length) + self._sent)

    def on_connection_close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._upstream is not None:
            self._upstream.watch(None)
            self._upstream.close()
            self._upstream = None

    # the exchange

    @property
    def _sent(self) -> bytes:
        return b"".join(self._body)

    @property
    def _length(self) -> int:
        return sum(map(len, self._body))

    def _call(self) -> Call:
        one = self._admission
        return Call("POST", one.target, passed_on(self.request.headers), one.authorization)

    def _moved(self) -> None:
        """Answer if all of the answer is here; leave what is longer or went wrong to a task."""
        upstream = cast("Connection", self._upstream)
        if not (upstream.has_head or upstream.lost):
            return
        self._upstream = None
        upstream.watch(None)
        if not upstream.has_head:  # closed while idle: once more, on another
            self._begin(self._exchange())
            return
        body = upstream.whole()
        if body is None:
            self._begin(self._relay(upstream))
            return
        self._reply(upstream.status, upstream.headers, body)
        self._express.pool.give_back(upstream)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._answered(work))

    async def _answered(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except NbaasError as error:
            if self._status:  # the head is out: a broken answer must look broken
                cast("Any", self._connection).close()
                return
            kind = [(b"content-type", b"application/json")]
            self._reply(error.http_status, kind, msgspec.json.encode(error.to_json()))
        except iostream.StreamClosedError:  # the client left
            pass

    async def _exchange(self) -> None:
        async with self._express.pool.exchange(self._call(), self._sent) as upstream:
            await self._pass_on(upstream)

    async def _relay(self, upstream: Connection) -> None:
        try:
            await self._pass_on(upstream)
        finally:
            self._express.pool.give_back(upstream)

    async def _pass_on(self, upstream: Connection) -> None:
        body = upstream.whole()
        if body is not None:
            self._reply(upstream.status, upstream.headers, body)
            return
        # With its length, an answer that breaks off is seen to be broken off.
        length = dict(upstream.headers).get(b"content-length", b"").decode()
        await self._head(upstream.status, upstream.headers, length, None)
        async for chunk in upstream.chunks():
            await self._connection.write(chunk)
        self._finish()

    def _reply(self, status: int, headers: list[Header], body: bytes) -> None:
        written = self._head(status, headers, str(len(body)), body)
        written.add_done_callback(lambda future: future.exception())  # the client left
        self._finish()

    def _head(
        self, status: int, headers: list[Header], length: str, body: bytes | None
    ) -> asyncio.Future[None]:
        self._status = status
        answer = httputil.HTTPHeaders({"Content-Type": "application/json", "Date": _date()})
        for name, value in headers:
            if name not in HELD_BACK:
                answer[name.decode("latin-1")] = value.decode("latin-1")
        for key, text in self._admission.headers:
            answer[key] = text
        if length:
            answer["Content-Length"] = length
        reason = responses.get(status, "Unknown")
        line = httputil.ResponseStartLine("HTTP/1.1", status, reason)
        return cast("Any", self._connection.write_headers(line, answer, body))

    def _finish(self) -> None:
        self._connection.finish()
        self._express.app.log_request(cast("web.RequestHandler", self))


def _date() -> str:
    return _date_of(int(time.time()))


@lru_cache(maxsize=1)
def _date_of(second: int) -> str:
    return httputil.format_timestamp(second)
