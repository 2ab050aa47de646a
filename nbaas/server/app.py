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
from tornado.routing import AnyMatches, Rule

from nbaas.config import Settings, load_settings
from nbaas.deploy.lease import RENEWALS, on_hub, renew
from nbaas.errors import NbaasError
from nbaas.server.base import THREADS, Context
from nbaas.server.endpoints import EndpointIndex, TokenCheck, locate
from nbaas.server.express import Admitted, Express
from nbaas.server.guard import open_methods
from nbaas.server.jobs import JobIndex
from nbaas.server.live import Live
from nbaas.server.routes import ROUTES
from nbaas.server.upstream import Pool

if TYPE_CHECKING:
    from tornado import web


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
    _tasks: tuple[asyncio.Task[None], ...] = ()

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
            Admitted(),
        )

    def initialize_handlers(self) -> None:
        self.handlers.extend(checked(ROUTES))

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        context: Context = self.settings["nbaas_context"]
        live = Live(context)
        shared = serverapp.web_app.settings
        self._put_express_first(serverapp.web_app, context)
        shared["nbaas_live"] = live
        active = asyncio.Event()
        self._tasks = (
            asyncio.create_task(live.run(active)),
            asyncio.create_task(_stay_active(active, shared)),
            asyncio.create_task(_keep_lease(context.settings)),
        )

    def _put_express_first(self, app: web.Application, context: Context) -> None:
        prefix = app.settings["base_url"].rstrip("/") + "/nbaas/"
        express = Express(app, prefix, context.admitted, context.gateway)
        app.default_router.rules.insert(0, Rule(AnyMatches(), express))

    async def stop_extension(self) -> None:
        for task in self._tasks:
            task.cancel()
        context: Context = self.settings["nbaas_context"]
        context.close()


async def _keep_lease(settings: Settings) -> None:
    """On a hub, let the endpoints run for as long as this server does, and one lease more."""
    while on_hub() and settings.lease > 0:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(renew, settings)
        await asyncio.sleep(settings.lease / RENEWALS)


async def _stay_active(active: asyncio.Event, shared: dict[str, Any]) -> None:
    """Renew the server's activity while jobs run: an idle culler must not end them."""
    while True:
        await active.wait()
        active.clear()
        shared["nbaas_last_activity"] = utcnow()
