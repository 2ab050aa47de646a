"""The table of all routes: patterns below the server's base URL.

Rule: what a pattern lets through is an id or a name that cannot be a path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbaas.server import handlers

if TYPE_CHECKING:
    from tornado import web

JOB = r"(?P<job_id>[0-9]{8}-[0-9]{6}-[0-9a-f]{8})"

ROUTES: list[tuple[str, type[web.RequestHandler]]] = [
    (r"/nbaas/api/jobs", handlers.JobsHandler),
    (rf"/nbaas/api/jobs/{JOB}", handlers.JobHandler),
    (rf"/nbaas/api/jobs/{JOB}/log", handlers.LogHandler),
    (rf"/nbaas/api/jobs/{JOB}/stop", handlers.StopHandler),
    (rf"/nbaas/api/jobs/{JOB}/kill", handlers.KillHandler),
    (r"/nbaas/api/hosts", handlers.HostsHandler),
]
