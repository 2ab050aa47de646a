"""The table of all routes: patterns below the server's base URL.

Rule: what a pattern lets through is an id or a name that cannot be a path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbaas.server import handlers
from nbaas.server.live import LiveHandler
from nbaas.server.proxy import ProxyHandler

if TYPE_CHECKING:
    from tornado import web

JOB = r"(?P<job_id>[0-9]{8}-[0-9]{6}-[0-9a-f]{8})"
NAME = r"(?P<name>[A-Za-z0-9][A-Za-z0-9_-]{0,62})"
VERSION = r"(?:/versions/(?P<version>[A-Za-z0-9][A-Za-z0-9_.-]{0,62}))?"

CONTROL: list[tuple[str, type[web.RequestHandler]]] = [
    (r"/nbaas/api/openapi\.json", handlers.OpenApiHandler),
    (r"/nbaas/api/jobs", handlers.JobsHandler),
    (rf"/nbaas/api/jobs/{JOB}", handlers.JobHandler),
    (rf"/nbaas/api/jobs/{JOB}/log", handlers.LogHandler),
    (rf"/nbaas/api/jobs/{JOB}/outputs", handlers.OutputsHandler),
    (rf"/nbaas/api/jobs/{JOB}/stop", handlers.StopHandler),
    (rf"/nbaas/api/jobs/{JOB}/kill", handlers.KillHandler),
    (rf"/nbaas/api/jobs/{JOB}/checkpoint", handlers.CheckpointHandler),
    (rf"/nbaas/api/jobs/{JOB}/resume", handlers.ResumeHandler),
    (r"/nbaas/api/hosts", handlers.HostsHandler),
    (r"/nbaas/api/hosts/check", handlers.CheckHandler),
    (r"/nbaas/api/live", LiveHandler),
    (r"/nbaas/api/endpoints", handlers.EndpointsHandler),
    (rf"/nbaas/api/endpoints/{NAME}/card", handlers.CardHandler),
    (rf"/nbaas/api/endpoints/{NAME}/token", handlers.TokenHandler),
    (rf"/nbaas/api/endpoints/{NAME}/undeploy", handlers.UndeployHandler),
    (rf"/nbaas/api/endpoints/{NAME}/rollback", handlers.RollbackHandler),
    (rf"/nbaas/api/endpoints/{NAME}/canary", handlers.CanaryHandler),
    (rf"/nbaas/api/endpoints/{NAME}/tokens", handlers.TokensHandler),
    (rf"/nbaas/api/endpoints/{NAME}/tokens/revoke", handlers.RevokeHandler),
]

# The Open Inference Protocol, and plain JSON: what the gateway answers.
GATEWAY: list[tuple[str, type[web.RequestHandler]]] = [
    (r"/nbaas/v2(?:/health/(?:live|ready)|/repository/index)?", ProxyHandler),
    (
        rf"/nbaas/v2/models/{NAME}{VERSION}(?:/ready|/stats|/infer|/infer_stream|/explain)?",
        ProxyHandler,
    ),
    (rf"/nbaas/predict/{NAME}{VERSION}(?:/stream)?", ProxyHandler),
]

# Whatever else is below /nbaas: a client that reads JSON must not be sent jupyter-server's page.
ELSEWHERE: list[tuple[str, type[web.RequestHandler]]] = [
    (r"/nbaas(?:/.*)?", handlers.NothingHereHandler),
]

ROUTES = CONTROL + GATEWAY + ELSEWHERE
