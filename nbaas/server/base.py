"""What our handlers share: JSON in and out, errors by class, a body cap, work in threads.

Rules: handlers hold no try; the class of an error is its status.  Nothing blocks the event loop,
which relays every kernel message as well.  A GET changes nothing: its check against other sites is
weak.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.client import responses
from typing import Any, ParamSpec, TypeVar

import msgspec
from jupyter_server.base.handlers import APIHandler
from jupyter_server.extension.handler import ExtensionHandlerMixin
from tornado import web
from tornado.iostream import StreamClosedError

from nbaas.config import Settings
from nbaas.errors import NbaasError, UsageError
from nbaas.server.endpoints import EndpointIndex, TokenCheck
from nbaas.server.express import Admitted
from nbaas.server.jobs import JobIndex
from nbaas.server.upstream import Pool

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")

BODY_LIMIT = 64 << 10  # bytes of a control request
THREADS = 4


@dataclass(frozen=True, slots=True)
class Context:
    """What the handlers of one server share."""

    settings: Settings
    threads: ThreadPoolExecutor
    jobs: JobIndex
    endpoints: EndpointIndex
    gateway: Pool
    tokens: TokenCheck
    admitted: Admitted

    async def call(
        self,
        function: Callable[Arguments, Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """Return `function(...)`, run in a thread: a slow disk must not stop the event loop."""
        work = partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self.threads, work)

    def close(self) -> None:
        self.gateway.close()
        self.threads.shutdown(wait=False, cancel_futures=True)


@web.stream_request_body
class NbaasHandler(ExtensionHandlerMixin, APIHandler):
    """Base of the JSON routes; bodies are streamed so that the cap holds before memory is used."""

    # No OPTIONS: jupyter-server's answers without a user, and other sites have no business here.
    SUPPORTED_METHODS: tuple[str, ...] = ("GET", "POST")
    # A panel left open in a forgotten tab polls; that must not keep a culled server alive.
    _track_activity = False
    body_limit = BODY_LIMIT

    @property
    def context(self) -> Context:
        context: Context = self.settings["nbaas_context"]
        return context

    async def prepare(self) -> None:  # type: ignore[override]
        self.cap_body()
        await super().prepare()
        if self.current_user is None:
            # Before the body is read; `guarded` refuses once more where the method begins.
            raise web.HTTPError(403, "no token and no login")

    def cap_body(self) -> None:
        """Refuse a body over the limit by its head; the rest of the check is tornado's."""
        self.received: list[bytes] = []
        self.request.connection.set_max_body_size(self.body_limit)  # type: ignore[union-attr]
        if int(self.request.headers.get("Content-Length") or 0) > self.body_limit:
            raise web.HTTPError(413, f"a body here has at most {self.body_limit} bytes")

    def data_received(self, chunk: bytes) -> None:
        self.received.append(chunk)

    def body(self, kind: type[Result]) -> Result:
        """Return the JSON body as `kind`; an empty body is an empty object.

        Raises: UsageError: not JSON, or a field that does not fit.
        """
        try:
            return msgspec.json.decode(b"".join(self.received) or b"{}", type=kind)
        except msgspec.MsgspecError as wrong:
            raise UsageError(f"the body does not fit: {wrong}") from wrong

    def integer(self, name: str, default: int, *, least: int = 0, most: int) -> int:
        """Return the query argument `name`; UsageError where it is no number in [least, most]."""
        text = self.get_query_argument(name, str(default))
        # Cut before it is read, since a megabyte of digits takes long; a cut one is still too large.
        digits = text.lstrip("0")[:20] or "0"
        if not (text.isascii() and text.isdigit() and least <= int(digits) <= most):
            raise UsageError(f"{name}={text[:40]!r} is not a number from {least} to {most}")
        return int(text)

    def reply(self, value: Any, status: int = 200) -> None:
        self.set_status(status)
        self.set_header("Cache-Control", "no-store")
        self.finish(msgspec.json.encode(value))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", ", ".join(self.SUPPORTED_METHODS))
        if isinstance(error, NbaasError):
            self.reply(error.to_json(), error.http_status)
            return
        text = responses.get(status_code, "Unknown error")
        if isinstance(error, web.HTTPError):
            text = error.log_message or error.reason or text
        self.reply({"kind": "HTTPError", "error": text, "hint": ""}, status_code)

    def log_exception(self, kind: Any, error: Any, traceback: Any) -> None:
        """One line for a mistake of the caller; the stack only for one of ours."""
        if isinstance(error, NbaasError):
            self.log.warning("%s %s: %s", self.request.method, self.request.path, error.message)
        elif not isinstance(error, StreamClosedError):  # the client left
            super().log_exception(kind, error, traceback)
