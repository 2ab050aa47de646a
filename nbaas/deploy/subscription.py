"""A stream as who asked for it sees it: an iterator over the items of an endpoint that yields."""

from __future__ import annotations

import http.client
import json
from collections.abc import Generator
from typing import Any

from nbaas.config import Settings
from nbaas.deploy.client import error_of, gateway_address, request_headers
from nbaas.deploy.events import events
from nbaas.deploy.hosting import ensure_host
from nbaas.deploy.registry import found_endpoint, read_version
from nbaas.deploy.wire import decode_outputs, encode_inputs
from nbaas.errors import EndpointError, InputError


def predict_stream(
    settings: Settings, name: str, inputs: Any, *, version: int | None = None, timeout: float = 60.0
) -> Generator[Any]:
    """Return the items of the endpoint's answer as they come: arrays, or dicts of arrays by name.

    Asked at once, so what is wrong with `inputs` is raised here; `timeout` seconds for each item.
    Closing the iterator closes the model's generator.
    Raises: InputError: it does not fit, or the model does not yield.  EndpointNotFoundError.
    EndpointError: also from the iterator, where the stream ends before its end.
    """
    record = found_endpoint(settings.endpoints, name)
    manifest = read_version(settings.endpoints, name, version or record.current)
    if not manifest.streams:
        hint = f"nbaas.predict({name!r}, x), %predict {name} x"
        raise InputError(f"{name} does not yield, it answers at once", hint=hint)
    header_length, body = encode_inputs(inputs, manifest.signature, binary=False)
    ensure_host(settings)
    where = f"{name}/versions/{version}" if version else name
    connection = http.client.HTTPConnection(*gateway_address(settings), timeout=timeout)
    try:
        headers = request_headers(settings, name, header_length)
        connection.request("POST", f"/v2/models/{where}/infer_stream", body=body, headers=headers)
        response = connection.getresponse()
        if response.status != 200:  # noqa: PLR2004 - HTTP
            raise error_of(response.status, response.read())
    except (OSError, http.client.HTTPException) as lost:
        connection.close()
        raise EndpointError(f"the gateway does not answer: {lost}", hint="%endpoints") from lost
    except EndpointError:
        connection.close()
        raise
    return _items(connection, response)


def _items(
    connection: http.client.HTTPConnection, response: http.client.HTTPResponse
) -> Generator[Any]:
    try:
        for kind, data in events(response):
            if kind == "end":
                return
            if kind == "error":
                raise EndpointError(str(json.loads(data)["error"]), hint="%endpoints")
            yield decode_outputs(data, {})
        raise EndpointError("the stream broke off before its end", hint="%endpoints")
    except (OSError, http.client.HTTPException) as lost:
        raise EndpointError(f"the stream broke off: {lost!r}", hint="%endpoints") from lost
    finally:
        response.close()
        connection.close()
