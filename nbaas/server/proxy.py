"""Predictions through the Jupyter server: the request goes to the gateway, the answer comes back.

A convenience for browsers and hubs; heavy clients use the gateway's own address.  Rules: the user's
Jupyter token and cookies never leave this process.  Who has logged in goes on with the host's token,
who shows a token of the endpoint goes on with that.  Nothing is passed on before both were checked.
"""

from __future__ import annotations

import hmac

from jupyter_core.utils import ensure_async
from jupyter_server.auth.identity import User
from tornado import web

from nbaas.errors import EndpointError
from nbaas.server.base import NbaasHandler
from nbaas.server.endpoints import BEARER
from nbaas.server.express import (
    HELD_BACK,
    SMALL,
    Admission,
    decides_alone,
    is_plain,
    passed_on,
)
from nbaas.server.guard import RESOURCE, guarded
from nbaas.server.upstream import Call, Connection

LONGEST = 512 << 20  # bytes; the endpoint's own limit is the gateway's to check
UNSIZED = 16 << 20  # bytes of a body that does not say its length


class ProxyHandler(NbaasHandler):
    """A route of the gateway; `name` is the endpoint's where the path has one."""

    SUPPORTED_METHODS = ("GET", "POST")
    body_limit = LONGEST
    _endpoint_token = ""  # the Authorization header, if it shows a token of the endpoint
    _upstream: Connection | None = None
    _answering: Connection | None = None
    _left = False  # the client has hung up

    async def prepare(self) -> None:  # type: ignore[override]
        self._endpoint_token = await self._shown_token()
        if self._endpoint_token:
            # No login: a token of an endpoint says what may be called, not who calls.
            self.cap_body()
            if not self.check_host():
                raise web.HTTPError(403)
            user = User(username=f"endpoint:{self.path_kwargs['name']}")
            self.current_user = self._jupyter_current_user = user
        else:
            await super().prepare()
        length = self.request.headers.get("Content-Length")
        if length is None:
            self.request.connection.set_max_body_size(UNSIZED)  # type: ignore[union-attr]
        elif int(length) > SMALL and self.request.method == "POST":
            await self._begin(int(length))

    async def _begin(self, length: int) -> None:
        """Open the way for a long body, which leaves in parts before `post` is called."""
        # Asked here as well, since `guarded` only asks when the whole body is here.
        allowed = self.authorizer.is_authorized(self, self.current_user, "write", RESOURCE)
        if not await ensure_async(allowed):
            raise web.HTTPError(403)
        self._upstream = await self.context.gateway.open(self._call(), length)

    async def _shown_token(self) -> str:
        """Return the Authorization header if it shows a token of the endpoint named, else ''."""
        name = self.path_kwargs.get("name")
        given = self.request.headers.get("Authorization", "")
        match = BEARER.fullmatch(given)
        if name is None or match is None:
            return ""
        if self.token and hmac.compare_digest(match[1].encode(), self.token.encode()):
            return ""
        return given if await self.context.tokens.shows(name, given) else ""

    async def data_received(self, chunk: bytes) -> None:  # type: ignore[override]
        if self._upstream is None:
            self.received.append(chunk)
        else:
            await self._upstream.send(chunk)

    def on_finish(self) -> None:
        self._let_go()

    def on_connection_close(self) -> None:
        self._left = True
        self._let_go()
        if self._answering is not None:
            self._answering.close()  # a stream may be silent for long before it is written to again

    def _let_go(self) -> None:
        if self._upstream is not None:
            self.context.gateway.give_back(self._upstream)
            self._upstream = None

    @guarded("read")
    async def get(self, **_: str) -> None:
        async with self.context.gateway.exchange(self._call(), None) as connection:
            await self._answer(connection)

    @guarded("write")
    async def post(self, **_: str) -> None:
        if self._upstream is not None:
            await self._upstream.answered()
            await self._answer(self._upstream)
            return
        self._remember()
        body = b"".join(self.received)
        async with self.context.gateway.exchange(self._call(), body) as connection:
            await self._answer(connection)

    def _call(self) -> Call:
        method, headers = str(self.request.method), passed_on(self.request.headers)
        return Call(method, self._target, headers, self._endpoint_token)

    @property
    def _target(self) -> str:
        base = self.base_url.rstrip("/")
        return self.request.path.removeprefix(f"{base}/nbaas")

    def _remember(self) -> None:
        """Let the next request like this one take the short way, if nothing else is to be asked."""
        by_endpoint = bool(self._endpoint_token)
        if (
            is_plain(self.request)
            and (by_endpoint or self.token_authenticated)
            and decides_alone(
                self.identity_provider, self.authorizer, by_endpoint_token=by_endpoint
            )
        ):
            names = ["X-Content-Type-Options", "Content-Security-Policy", "Server"]
            names += self.settings.get("headers", {})
            said = tuple((name, self._headers[name]) for name in names if name in self._headers)
            self.context.admitted.remember(
                self.request,
                Admission(
                    self.current_user,
                    self._target,
                    self._endpoint_token,
                    (*said, ("Cache-Control", "no-store")),
                ),
            )

    async def _answer(self, connection: Connection) -> None:
        self.set_status(connection.status)
        kind = "application/json"
        for name, value in connection.headers:
            if name == b"content-type":
                kind = value.decode("latin-1")
            elif name not in HELD_BACK:
                self.set_header(name.decode("latin-1"), value)
        self.set_header("Cache-Control", "no-store")
        body = connection.whole()
        if body is not None:
            self.finish(body, set_content_type=kind)
            return
        # With its length, an answer that breaks off is seen to be broken off.
        if length := dict(connection.headers).get(b"content-length"):
            self.set_header("Content-Length", length)
        self.set_header("Content-Type", kind)
        self._answering = connection
        try:
            async for chunk in connection.chunks():
                self.write(chunk)
                await self.flush()
        except EndpointError:
            if not self._left:
                raise
            return
        finally:
            self._answering = None
        self.finish(set_content_type=kind)
