"""The control routes described in OpenAPI 3.1, from the very records that the handlers send.

Pure.  Rule: a route that is not described here fails a test, and so does an answer that differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from nbaas._version import __version__
from nbaas.deploy.card import Card
from nbaas.server.jobs import JobDetail, JobRow
from nbaas.server.logs import LONGEST, LogPart
from nbaas.server.messages import (
    MOST_BYTES,
    MOST_JOBS,
    MOST_POINTS,
    MOST_RANKS,
    MOST_VERSIONS,
    Checked,
    Endpoints,
    Grace,
    Hosts,
    Jobs,
    Made,
    Named,
    NewToken,
    Nothing,
    Opened,
    Refusal,
    Revoked,
    Served,
    Shared,
    Split,
    Tokens,
    Wanted,
)
from nbaas.server.outputs import OutputParts

JOB_ID = "^[0-9]{8}-[0-9]{6}-[0-9a-f]{8}$"
NAME = "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"


@dataclass(frozen=True, slots=True)
class Query:
    """A number in the query, `least` to `most`."""

    name: str
    default: int | None
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path; `refusals` beside those that every route has."""

    method: str
    path: str
    summary: str
    answer: type
    status: int = 200
    body: type | None = None
    query: Sequence[Query] = ()
    refusals: Sequence[int] = ()


OPERATIONS = (
    Operation(
        "get", "/nbaas/api/jobs", "All jobs that run and the newest that ended", Jobs,
        query=(Query("limit", 50, 0, MOST_JOBS),),
    ),
    Operation(
        "get", "/nbaas/api/jobs/{job_id}", "A job with its curves", JobDetail,
        query=(Query("points", 600, 2, MOST_POINTS),), refusals=(404, 409),
    ),
    Operation(
        "get", "/nbaas/api/jobs/{job_id}/log", "A piece of a rank's log", LogPart,
        query=(
            Query("rank", 0, 0, MOST_RANKS),
            Query("start", None, 0, MOST_BYTES),
            Query("tail", LONGEST, 1, LONGEST),
        ),
        refusals=(404, 409),
    ),
    Operation(
        "get", "/nbaas/api/jobs/{job_id}/outputs", "What an ended job leaves in a notebook",
        OutputParts, refusals=(404, 409),
    ),
    Operation(
        "post", "/nbaas/api/jobs/{job_id}/stop", "Finish the step, return", JobRow, 202,
        body=Grace, refusals=(404, 409, 413),
    ),
    Operation(
        "post", "/nbaas/api/jobs/{job_id}/kill", "End all ranks now", JobRow, 202,
        body=Nothing, refusals=(404, 409, 413),
    ),
    Operation(
        "post", "/nbaas/api/jobs/{job_id}/checkpoint", "Save at the end of the turn", JobRow, 202,
        body=Nothing, refusals=(404, 409, 413),
    ),
    Operation(
        "post", "/nbaas/api/jobs/{job_id}/resume", "Go on from the last checkpoint", JobRow, 201,
        body=Nothing, refusals=(404, 409, 413),
    ),
    Operation("get", "/nbaas/api/hosts", "Cores, memory, GPUs and who holds them", Hosts),
    Operation(
        "post", "/nbaas/api/hosts/check", "What this host has and lacks", Checked,
        body=Nothing, refusals=(413,),
    ),
    Operation("get", "/nbaas/api/endpoints", "What is deployed", Endpoints, refusals=(503,)),
    Operation(
        "get", "/nbaas/api/endpoints/{name}/card", "The model card of a version", Card,
        query=(Query("version", 0, 0, MOST_VERSIONS),), refusals=(404, 422),
    ),
    Operation(
        "post", "/nbaas/api/endpoints/{name}/token", "The token that opens an endpoint", Opened,
        body=Nothing, refusals=(404, 413, 422),
    ),
    Operation(
        "post", "/nbaas/api/endpoints/{name}/undeploy", "Take an endpoint down", Named,
        body=Nothing, refusals=(404, 413, 503),
    ),
    Operation(
        "post", "/nbaas/api/endpoints/{name}/canary", "Change a canary's share", Shared,
        body=Split, refusals=(404, 413, 422, 503),
    ),
    Operation(
        "get", "/nbaas/api/endpoints/{name}/tokens", "Its tokens, without their values", Tokens,
        refusals=(404,),
    ),
    Operation(
        "post", "/nbaas/api/endpoints/{name}/tokens", "Make a token", Made, 201,
        body=NewToken, refusals=(404, 413, 503),
    ),
    Operation(
        "post", "/nbaas/api/endpoints/{name}/tokens/revoke", "Make a token worthless", Named,
        body=Revoked, refusals=(404, 413, 422, 503),
    ),
    Operation(
        "post", "/nbaas/api/endpoints/{name}/rollback", "Serve an older version", Served,
        body=Wanted, refusals=(404, 413, 422, 503),
    ),
)  # fmt: skip
EVERYWHERE = (400, 403)


def document(base_url: str) -> dict[str, Any]:
    """Return the OpenAPI document; `base_url` is the server's, such as '/user/ann/'."""
    kinds = {operation.answer for operation in OPERATIONS} | {Refusal}
    kinds |= {operation.body for operation in OPERATIONS if operation.body is not None}
    ordered = sorted(kinds, key=lambda kind: kind.__name__)
    refs, schemas = msgspec.json.schema_components(
        ordered, ref_template="#/components/schemas/{name}"
    )
    schema_of = dict(zip(ordered, refs, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation, schema_of)
    token = {"type": "apiKey", "in": "header", "name": "Authorization"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nbaas",
            "version": __version__,
            "description": "Predictions are at /nbaas/v2: the Open Inference Protocol.",
        },
        "servers": [{"url": base_url.rstrip("/") or "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": token}},
    }


def _described(operation: Operation, schema_of: dict[type, Any]) -> dict[str, Any]:
    statuses = sorted({*EVERYWHERE, *operation.refusals})
    answers = {str(status): _content("Refused", schema_of[Refusal]) for status in statuses}
    answers[str(operation.status)] = _content("Done", schema_of[operation.answer])
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": operation.method + operation.path.replace("/", "_").replace("{", ""),
        "parameters": [*_path_parameters(operation.path), *map(_query_parameter, operation.query)],
        "responses": answers,
    }
    if operation.body is not None:
        described["requestBody"] = {
            "required": any(field.required for field in msgspec.structs.fields(operation.body)),
            "content": {"application/json": {"schema": schema_of[operation.body]}},
        }
    return described


def _content(description: str, schema: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    patterns = {"job_id": JOB_ID, "name": NAME}
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": pattern},
        }
        for name, pattern in patterns.items()
        if f"{{{name}}}" in path
    ]


def _query_parameter(query: Query) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer", "minimum": query.least, "maximum": query.most}
    if query.default is not None:
        schema["default"] = query.default
    return {"name": query.name, "in": "query", "required": False, "schema": schema}
