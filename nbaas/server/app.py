"""The server extension: its routes, and what runs beside them.

Rules: the extension loads only if no method of ours is open.  It owns nothing that a job or an
endpoint needs: both outlive the server, and are found again by their files.
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from jupyter_server._tz import utcnow
from jupyter_server.extension.application import ExtensionApp

from nbaas.config import load_settings
from nbaas.errors import NbaasError
from nbaas.server.base import THREADS, Context
from nbaas.server.endpoints import EndpointIndex, TokenCheck, locate
from nbaas.server.guard import open_methods
from nbaas.server.jobs import JobIndex
from nbaas.server.routes import ROUTES
from nbaas.server.upstream import Pool

if TYPE_CHECKING:
    from tornado import web

# How often jobs are reconciled with what really runs, and the server's activity is renewed while
# any is alive: an idle culler must not end a server that trains.
WATCH_INTERVAL = 1.0  # seconds


class OpenRouteError(NbaasError):
    """A method without `guarded`: the extension does not load."""


def checked(routes: list[tuple[str, type[web.RequestHandler]]]) -> list[Any]:
    """Return the routes; OpenRouteError where a method of theirs lets anybody in."""
    if found := open_methods(handler for _, handler in routes):
        raise OpenRouteError("nbaas does not load, these are open: " + ", ".join(found))
    return list(routes)


class NbaasExtension(ExtensionApp):
    """nbaas in a Jupyter server: /nbaas/api for the panel, /nbaas/v2 for predictions."""

    name = "nbaas"
    extension_url = "/nbaas"
    _watch: asyncio.Task[None] | None = None

    def initialize_settings(self) -> None:
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="nbaas")
        settings = load_settings()
        self.settings["nbaas_context"] = Context(
            settings,
            threads,
            JobIndex(settings),
            EndpointIndex(settings),
            Pool(partial(locate, settings)),
            TokenCheck(settings),
        )

    def initialize_handlers(self) -> None:
        self.handlers.extend(checked(ROUTES))

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        self._watch = asyncio.create_task(self._keep_watch(serverapp.web_app.settings))

    async def stop_extension(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        context: Context = self.settings["nbaas_context"]
        context.close()

    async def _keep_watch(self, shared: dict[str, Any]) -> None:
        context: Context = self.settings["nbaas_context"]
        while True:
            with contextlib.suppress(NbaasError, OSError):
                if await context.call(context.jobs.reconcile):
                    shared["nbaas_last_activity"] = utcnow()
            await asyncio.sleep(WATCH_INTERVAL)
