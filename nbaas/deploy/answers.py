"""Arrays to the bytes of an answer, in the form that the request asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from nbaas.deploy.codec import JSON_BODY, Request
from nbaas.deploy.manifest import Signature, TensorSpec

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Encoder:
    """Encodes the answers of one version; the parts that do not change are made once."""

    model: str
    version: str
    signature: Signature
    _head: bytes = b""
    _single: bytes = b""
    _version: bytes = b""

    def __post_init__(self) -> None:
        name, version = _encode(self.model), _encode(self.version)
        self._version = version
        self._head = b'{"model_name":%b,"model_version":%b,' % (name, version)
        spec = self.signature.outputs[0]
        self._single = b'"outputs":[{"name":%b,"datatype":"%b","shape":' % (
            _encode(spec.name),
            spec.datatype.encode(),
        )

    def encode(self, request: Request, arrays: list[Any]) -> tuple[int, bytes]:
        """Return the header length (JSON_BODY for plain JSON) and the body.  `arrays` are (B, ...)."""
        if request.style == "plain":
            return JSON_BODY, self._plain(request, arrays)
        head = self._head if request.id is None else self._with_id(request.id)
        if not request.binary and not request.outputs and len(arrays) == 1:
            array = arrays[0]
            shape = ",".join(map(str, array.shape)).encode()
            return JSON_BODY, b'%b%b[%b],"data":%b}]}' % (
                head,
                self._single,
                shape,
                _encode(_cells(array, self.signature.outputs[0])),
            )
        return self._mixed(request, arrays, head)

    def rows(self, arrays: list[Any]) -> list[Any] | None:
        """Return the rows of a batch's one output (B, n) as lists for `row`; None where it is another."""
        spec = self.signature.outputs[0]
        if len(arrays) != 1 or arrays[0].ndim != 2 or spec.datatype == "BF16":  # noqa: PLR2004
            return None
        table: list[Any] = arrays[0].tolist()
        return table

    def row(self, request: Any, row: list[Any]) -> bytes:
        """Return the JSON body of an answer of one row, as `encode` would."""
        if request.style == "plain":
            cells = row if request.squeeze else [row]
            return b'{"outputs":%b,"model_version":%b}' % (_encode(cells), self._version)
        head = self._head if request.id is None else self._with_id(request.id)
        return b'%b%b[1,%d],"data":%b}]}' % (head, self._single, len(row), _encode(row))

    def _with_id(self, identity: str) -> bytes:
        return b'%b"id":%b,' % (self._head, _encode(identity))

    def _mixed(self, request: Request, arrays: list[Any], head: bytes) -> tuple[int, bytes]:
        wanted = request.outputs or tuple(spec.name for spec in self.signature.outputs)
        by_name = {s.name: (s, a) for s, a in zip(self.signature.outputs, arrays, strict=True)}
        described, tails = [], []
        for name in wanted:
            spec, array = by_name[name]
            entry: dict[str, Any] = {
                "name": name,
                "datatype": spec.datatype,
                "shape": list(array.shape),
            }
            if name in request.binary:
                data = array.tobytes()
                entry["parameters"] = {"binary_data_size": len(data)}
                tails.append(data)
            else:
                entry["data"] = _cells(array, spec)
            described.append(entry)
        text = b'%b"outputs":%b}' % (head, _encode(described))
        return (len(text) if request.binary else JSON_BODY), b"".join([text, *tails])

    def _plain(self, request: Request, arrays: list[Any]) -> bytes:
        if len(arrays) == 1 and not request.squeeze:
            cells = _encode(_nested_cells(arrays[0], self.signature.outputs[0]))
            return b'{"outputs":%b,"model_version":%b}' % (cells, self._version)
        rows = [a[0] if request.squeeze else a for a in arrays]
        named = {
            s.name: _nested_cells(a, s) for s, a in zip(self.signature.outputs, rows, strict=True)
        }
        outputs = next(iter(named.values())) if len(named) == 1 else named
        return _encode({"outputs": outputs, "model_version": self.version})


def _cells(array: Any, spec: TensorSpec) -> list[Any]:
    """Return the cells of an array as one flat list of numbers; BF16 as floats."""
    cells: list[Any] = _readable(array, spec).ravel().tolist()
    return cells


def _nested_cells(array: Any, spec: TensorSpec) -> Any:
    return _readable(array, spec).tolist()


def _readable(array: Any, spec: TensorSpec) -> Any:
    if spec.datatype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array
