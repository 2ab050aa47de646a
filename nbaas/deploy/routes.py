"""The routes of the gateway that carry no tensors: health, metadata, readiness, index, metrics."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from nbaas._version import __version__
from nbaas.deploy.messages import JSON, NO_SNIFF, Answer, Request, error_body
from nbaas.deploy.openapi import document

if TYPE_CHECKING:
    from nbaas.deploy.gateway import Gateway
    from nbaas.deploy.table import Endpoint

EXTENSIONS = ["binary_tensor_data"]
TEXT = b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
NEED_TOKEN = "a token is needed: Authorization: Bearer ..."  # noqa: S105 - not a token
MODEL = re.compile(
    r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?(?P<what>/ready|/stats|/infer|/infer_stream|/explain)?"
)
_POSTED = ("/infer", "/infer_stream", "/explain")

Route = Callable[["Gateway", Request], Answer]


def answer_route(gateway: Gateway, request: Request) -> Answer:
    """Return the answer of a route that is not an inference."""
    path = request.url.partition(b"?")[0].decode("latin-1")
    route = _ROUTES.get(path)
    if route is not None:
        methods, handler = route
        if request.method.decode() not in methods:
            return _error(405, f"{methods[0]} is for this route")
        return handler(gateway, request)
    if match := MODEL.fullmatch(path):
        return _model_route(gateway, request, match)
    if path.startswith("/predict/"):
        return _unknown_endpoint(gateway, request, path.split("/")[2])
    return _error(404, "there is nothing here; GET /v2 describes the server")


def _model_route(gateway: Gateway, request: Request, match: re.Match[str]) -> Answer:
    name, version, what = unquote(match["name"]), match["version"], match["what"]
    endpoint = gateway.endpoints.get(name)
    if endpoint is None or not gateway.allowed(request, endpoint):
        return _unknown_endpoint(gateway, request, name)
    number = unquote(version) if version else endpoint.current
    found = endpoint.versions.get(number)
    if found is None:
        known = ", ".join(endpoint.versions)
        return _error(404, f"{name} has no version {number}; served: {known}")
    if request.method not in (b"GET", b"HEAD") or what in _POSTED:
        return _error(405, f"POST is for {', '.join(_POSTED)}, GET for all else")
    if what == "/ready":
        ready = found.ready
        return Answer(200 if ready else 503, b"" if ready else error_body("no replica is ready"))
    if what == "/stats":
        return _json(found.pool.counters.to_json())
    return _json({**found.metadata, "versions": sorted(endpoint.versions, key=_numeric)})


def _numeric(version: str) -> int:
    return int(version) if version.isdigit() else 0


def _unknown_endpoint(gateway: Gateway, request: Request, name: str) -> Answer:
    """Refuse without telling a stranger which names there are."""
    if gateway.allowed(request, None):
        known = ", ".join(sorted(gateway.endpoints)) or "none"
        return _error(404, f"there is no endpoint {name!r}; served: {known}")
    if _any_token(gateway, request):
        return _error(404, f"there is no endpoint {name!r} for this token")
    return _unauthorized()


def _any_token(gateway: Gateway, request: Request) -> bool:
    return any(gateway.allowed(request, e) for e in gateway.endpoints.values())


def _server(gateway: Gateway, request: Request) -> Answer:  # noqa: ARG001 - a route
    return _json({"name": "nbaas", "version": __version__, "extensions": EXTENSIONS})


def _live(gateway: Gateway, request: Request) -> Answer:  # noqa: ARG001
    return Answer(200, b'{"live":true}')


def _ready(gateway: Gateway, request: Request) -> Answer:  # noqa: ARG001
    waiting = [e.name for e in gateway.endpoints.values() if not e.versions[e.current].ready]
    if gateway.draining or waiting:
        return _error(
            503, "draining" if gateway.draining else f"{len(waiting)} endpoints not ready"
        )
    return Answer(200, b'{"ready":true}')


def _metrics(gateway: Gateway, request: Request) -> Answer:
    if not gateway.allowed(request, None):
        return _unauthorized()
    return Answer(200, gateway.metrics(), TEXT + NO_SNIFF)


def _index(gateway: Gateway, request: Request) -> Answer:
    """Return the repository index: the endpoints this token may see."""
    seen = [e for e in gateway.endpoints.values() if gateway.allowed(request, e)]
    if not seen and not gateway.allowed(request, None):
        return _unauthorized()
    return _json([row for endpoint in seen for row in _index_rows(endpoint)])


def _index_rows(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {
            "name": endpoint.name,
            "version": number,
            "state": "READY" if version.ready else "UNAVAILABLE",
            "reason": "" if version.ready else "no replica is ready",
        }
        for number, version in endpoint.versions.items()
    ]


def _openapi(gateway: Gateway, request: Request) -> Answer:
    """Return the OpenAPI document of the endpoints this token may see."""
    seen = [e for e in gateway.endpoints.values() if gateway.allowed(request, e)]
    if not seen and not gateway.allowed(request, None):
        return _unauthorized()
    served = [e.versions[e.current].metadata for e in seen if e.current in e.versions]
    return _json(document(served))


_ROUTES: dict[str, tuple[tuple[str, ...], Route]] = {
    "/v2": (("GET", "HEAD"), _server),
    "/v2/": (("GET", "HEAD"), _server),
    "/v2/health/live": (("GET", "HEAD"), _live),
    "/v2/health/ready": (("GET", "HEAD"), _ready),
    "/v2/repository/index": (("POST", "GET"), _index),
    "/openapi.json": (("GET", "HEAD"), _openapi),
    "/metrics": (("GET", "HEAD"), _metrics),
}


def _json(content: Any) -> Answer:
    return Answer(200, msgspec.json.encode(content), JSON + NO_SNIFF)


def _error(status: int, reason: str) -> Answer:
    return Answer(status, error_body(reason))


def _unauthorized() -> Answer:
    return Answer(401, error_body(NEED_TOKEN), JSON + b"WWW-Authenticate: Bearer\r\n")
