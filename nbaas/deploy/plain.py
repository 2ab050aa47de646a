"""The plain form of a request, for who writes `requests.post(json=...)`: lists, or lists by name.

Pure, as codec: whatever does not fit raises InputError with the expected signature.
"""

from __future__ import annotations

from typing import Any

import msgspec

from nbaas.deploy.codec import (
    JSON_BODY,
    Request,
    array_from,
    decode_infer,
    expected,
    fits,
    in_order,
)
from nbaas.deploy.manifest import Signature
from nbaas.errors import InputError

_RAW_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def decode_plain(body: bytes | memoryview, signature: Signature) -> Request:
    """Return the request of a plain body: `{"inputs": [[...]]}`, `[[...]]` or `{"x": [[...]]}`.

    One row may come without its batch dimension.  A list of v2 inputs is taken as v2.
    """
    text = bytes(body)
    if text.lstrip()[:1] == b"[":
        return _plain({signature.inputs[0].name: text}, signature)
    content = _fields(text, signature)
    for key in ("inputs", "instances"):
        if key in content and signature.input_named(key) is None:
            inner = bytes(content[key])
            if inner.lstrip()[:1] == b"{":
                return _plain(_fields(inner, signature), signature)
            if _is_v2(inner):
                return decode_infer(text, JSON_BODY, signature)
            return _plain({signature.inputs[0].name: inner}, signature)
    return _plain(content, signature)


def _fields(text: bytes, signature: Signature) -> dict[str, Any]:
    """Return the fields of a JSON object.  Raises: InputError: it is none."""
    try:
        return _RAW_OBJECT.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise InputError(f"the body is not JSON: {wrong}", hint=plain_example(signature)) from None


def _is_v2(inner: bytes) -> bool:
    return inner.lstrip()[:1] == b"[" and inner.lstrip()[1:].lstrip()[:1] == b"{"


def _plain(fields: dict[str, Any], signature: Signature) -> Request:
    known = {spec.name for spec in signature.inputs}
    if extra := sorted(fields.keys() - known):
        raise InputError(f"there is no input {extra[0]!r}", hint=plain_example(signature))
    found: dict[str, Any] = {}
    single: set[bool] = set()
    for spec in signature.inputs:
        if spec.name in fields:
            array = array_from(fields[spec.name], spec)
            row = array.ndim == len(spec.shape) - 1 and spec.shape[0] == -1
            array = array[None] if row else array
            if not fits(array.shape, spec) or not len(array):
                shape = ",".join(map(str, array.shape))
                raise InputError(
                    f"input {spec.name!r}: expected {spec}, got {spec.datatype} [{shape}]"
                )
            single.add(row)
            found[spec.name] = array
    arrays = in_order(found, signature)
    return Request(arrays, style="plain", squeeze=single == {True})


def plain_example(signature: Signature) -> str:
    if len(signature.inputs) == 1:
        return f'{expected(signature)}, as {{"inputs": [...]}}'
    names = ", ".join(f'"{s.name}": [...]' for s in signature.inputs)
    return f"{expected(signature)}, as {{{names}}}"
