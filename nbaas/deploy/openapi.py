"""The OpenAPI 3.1 document of what a token may reach at the gateway."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nbaas._version import __version__

_NUMBERS = {"type": "array", "items": {}}  # flat or nested
_ERROR = {
    "description": "one sentence that says what is wrong",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {"error": {"type": "string"}},
                "required": ["error"],
            }
        }
    },
}
_REFUSALS = {str(status): _ERROR for status in (400, 401, 404, 413, 415, 500, 501, 503, 504)}


def document(models: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the document for models given by their Open Inference metadata."""
    paths: dict[str, Any] = {
        "/v2": {"get": _operation("The server and its extensions", public=True)},
        "/v2/health/live": {"get": _operation("Whether the gateway runs", public=True)},
        "/v2/health/ready": {"get": _operation("Whether every endpoint answers", public=True)},
        "/v2/repository/index": {"post": _operation("The endpoints of this token")},
    }
    for model in models:
        paths |= _model_paths(model)
    return {
        "openapi": "3.1.0",
        "info": {"title": "nbaas", "version": __version__},
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}],
    }


def _operation(summary: str, *, public: bool = False) -> dict[str, Any]:
    answers = {"200": {"description": "as asked"}}
    refusals = {"503": _ERROR} if public else {"401": _ERROR, "404": _ERROR, "503": _ERROR}
    return {"summary": summary, "responses": {**answers, **refusals}} | (
        {"security": []} if public else {}
    )


def _model_paths(model: Mapping[str, Any]) -> dict[str, Any]:
    name = model["name"]
    base = f"/v2/models/{name}"
    if model.get("streams"):
        infer = _streamed(
            f"Open Inference request to {name}, answered item by item", _infer_schema(model)
        )
        plain = _streamed(
            f"Lists of numbers to {name}, answered item by item", _plain_schema(model)
        )
        posted = {f"{base}/infer_stream": infer, f"/predict/{name}/stream": plain}
    else:
        posted = _answered_at_once(name, base, model)
    return {
        base: {"get": _operation(f"Inputs and outputs of {name}")},
        f"{base}/ready": {"get": _operation(f"Whether {name} answers")},
        **{path: {"post": operation} for path, operation in posted.items()},
    }


def _answered_at_once(name: str, base: str, model: Mapping[str, Any]) -> dict[str, Any]:
    infer = _posted(f"Open Inference request to {name}", _infer_schema(model))
    plain = _posted(f"Lists of numbers to {name}", _plain_schema(model))
    return {
        f"{base}/infer": infer,
        f"{base}/explain": _explained(name, model),
        f"/predict/{name}": plain,
    }


def _streamed(summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return an operation answered by events: an item is a message, then end, or error."""
    operation = _posted(summary, schema)
    operation["responses"]["200"] = {
        "description": "server-sent events: one a message of the outputs, then 'end' or 'error'",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
    return operation


def _posted(summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"200": {"description": "the outputs"}, **_REFUSALS},
    }


def _explained(name: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the operation that asks why: a request as for /infer, with wishes in its parameters."""
    schema = _infer_schema(model)
    size = {"type": "integer", "minimum": 1}
    schema["properties"]["parameters"] = {
        "type": "object",
        "properties": {
            "method": {"enum": ["integrated-gradients", "occlusion"]},
            "target": {"type": "integer", "minimum": -1},
            "steps": {"type": "integer", "minimum": 1, "maximum": 512},
            "window": {"anyOf": [size, {"type": "array", "items": size}]},
            "input": {"type": "string"},
            "output": {"type": "string"},
        },
    }
    return _posted(f"What moved the answers of {name}: attributions by Captum", schema)


def _infer_schema(model: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": {
                "type": "array",
                "minItems": len(model["inputs"]),
                "maxItems": len(model["inputs"]),
                "items": {"oneOf": [_input_schema(each) for each in model["inputs"]]},
            },
        },
    }


def _input_schema(each: Mapping[str, Any]) -> dict[str, Any]:
    sizes = [{"type": "integer", "minimum": 1} if n == -1 else {"const": n} for n in each["shape"]]
    return {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"const": each["name"]},
            "datatype": {"const": each["datatype"]},
            "shape": {"type": "array", "prefixItems": sizes, "items": False},
            "data": _NUMBERS,
        },
    }


def _plain_schema(model: Mapping[str, Any]) -> dict[str, Any]:
    names = [each["name"] for each in model["inputs"]]
    by_name = {"type": "object", "required": names, "properties": dict.fromkeys(names, _NUMBERS)}
    if len(names) > 1:
        return by_name
    wrapped = {"type": "object", "required": ["inputs"], "properties": {"inputs": _NUMBERS}}
    return {"anyOf": [wrapped, _NUMBERS, by_name]}
