"""Bytes of a request to arrays and back: Open Inference Protocol v2, JSON and binary.

Pure: no I/O.  Whatever does not fit raises InputError with the expected signature; nothing else
leaves here.  Shape letters: B rows of a batch.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from nbaas.deploy.manifest import Signature, TensorSpec
from nbaas.errors import InputError

DTYPES: dict[str, Any] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),  # raw 16 bits: numpy has no bfloat16
}
JSON_BODY = -1  # as header length: the whole body is JSON
MAX_DIMS = 16
MAX_HEADER = 1 << 20  # bytes of JSON before binary tensors


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, Any] = {}


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Infer(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[_Output] | None = None


_INFER = msgspec.json.Decoder(_Infer)
_FLOATS = msgspec.json.Decoder(list[float])
_INTEGERS = msgspec.json.Decoder(list[int])
_BOOLEANS = msgspec.json.Decoder(list[bool])
_FLAT: dict[str, msgspec.json.Decoder[Any]] = {
    "f": _FLOATS,
    "i": _INTEGERS,
    "u": _INTEGERS,
    "b": _BOOLEANS,
}


NOTHING: frozenset[str] = frozenset()


@dataclass(slots=True)
class Request:
    """What was asked: input arrays in the signature's order, and how the answer is to look.

    `binary` are the names of the outputs wanted as raw bytes.  `style` is 'v2' or 'plain'.
    `squeeze`: the input was one row without its batch dimension, so is the answer.
    """

    arrays: list[Any]
    id: str | None = None
    outputs: tuple[str, ...] = ()  # empty: all
    binary: frozenset[str] = NOTHING
    style: str = "v2"
    squeeze: bool = False

    @property
    def rows(self) -> int:
        return len(self.arrays[0]) if self.arrays and self.arrays[0].ndim else 1


def decode_infer(body: bytes | memoryview, header_length: int, signature: Signature) -> Request:
    """Return the request of an Open Inference v2 body.

    `header_length` is the length of the JSON before the binary tensors, JSON_BODY where there are none.
    """
    text, tail = _split(body, header_length)
    try:
        asked = _INFER.decode(text)
    except msgspec.ValidationError as wrong:
        raise InputError(f"the request does not fit: {wrong}", hint=expected(signature)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise InputError(f"the body is not JSON: {wrong}", hint=expected(signature)) from None
    arrays = _named_arrays(asked.inputs, tail, signature)
    everything = bool(asked.parameters.get("binary_data_output", False))
    wanted, binary = _outputs(asked.outputs, signature, everything=everything)
    return Request(arrays, asked.id, wanted, binary)


def _split(body: bytes | memoryview, header_length: int) -> tuple[bytes | memoryview, memoryview]:
    if header_length == JSON_BODY:
        return body, memoryview(b"")
    if not 0 < header_length <= min(len(body), MAX_HEADER):
        raise InputError(
            f"Inference-Header-Content-Length is {header_length}, the body has {len(body)} bytes"
        )
    view = memoryview(body)
    return view[:header_length], view[header_length:]


def _named_arrays(inputs: list[_Input], tail: memoryview, signature: Signature) -> list[Any]:
    found: dict[str, Any] = {}
    offset = 0
    for given in inputs:
        spec = signature.input_named(given.name)
        if spec is None:
            raise InputError(f"there is no input {given.name!r}", hint=expected(signature))
        if given.name in found:
            raise InputError(f"input {given.name!r} is given twice")
        size = given.parameters.get("binary_data_size")
        if size is None:
            found[given.name] = _from_json(given, spec)
            continue
        if (
            isinstance(size, bool)
            or not isinstance(size, int)
            or not 0 <= size <= len(tail) - offset
        ):
            raise InputError(
                f"input {given.name!r}: binary_data_size is {size}, {len(tail) - offset} bytes follow"
            )
        found[given.name] = _from_bytes(given, spec, tail[offset : offset + size])
        offset += size
    if offset != len(tail):
        raise InputError(f"{len(tail) - offset} bytes follow the last binary input")
    return in_order(found, signature)


def in_order(found: dict[str, Any], signature: Signature) -> list[Any]:
    missing = [spec for spec in signature.inputs if spec.name not in found]
    if missing:
        names = ", ".join(repr(spec.name) for spec in missing)
        raise InputError(f"input {names} is missing", hint=expected(signature))
    arrays = [found[spec.name] for spec in signature.inputs]
    rows = {array.shape[0] for array in arrays if array.ndim}
    if len(rows) > 1 and all(s.shape[:1] == (-1,) for s in signature.inputs):
        counts = ", ".join(
            f"{s.name} {a.shape[0]}" for s, a in zip(signature.inputs, arrays, strict=True)
        )
        raise InputError(f"the inputs hold different numbers of rows: {counts}")
    return arrays


def fits(shape: tuple[int, ...] | list[int], spec: TensorSpec) -> bool:
    if len(shape) != len(spec.shape):
        return False
    pairs = zip(shape, spec.shape, strict=True)
    return all(want in (-1, got) for got, want in pairs) and min(shape, default=1) >= 0


def _check(given: _Input, spec: TensorSpec) -> None:
    """Refuse what does not fit the signature before any of its data is looked at."""
    if given.datatype != spec.datatype or not fits(given.shape, spec):
        shape = ",".join(map(str, given.shape[:MAX_DIMS]))
        raise InputError(f"input {spec.name!r}: expected {spec}, got {given.datatype} [{shape}]")
    if given.shape and given.shape[0] == 0:
        raise InputError(f"input {spec.name!r} holds no row; expected {spec}")


def _from_bytes(given: _Input, spec: TensorSpec, data: memoryview) -> Any:
    _check(given, spec)
    dtype = DTYPES[spec.datatype]
    count = _count(given.shape)
    if len(data) != count * dtype.itemsize:
        raise InputError(
            f"input {spec.name!r}: {spec.datatype} {given.shape} takes {count * dtype.itemsize} bytes, "
            f"binary_data_size is {len(data)}"
        )
    if dtype.kind == "b" and bytes(data).strip(b"\0\1"):
        raise InputError(f"input {spec.name!r}: a BOOL is a byte 0 or 1")
    return np.frombuffer(data, dtype=dtype).reshape(given.shape)


def _count(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _from_json(given: _Input, spec: TensorSpec) -> Any:
    _check(given, spec)
    if not bytes(given.data):
        raise InputError(f"input {spec.name!r} has no data; expected {spec}")
    array = array_from(given.data, spec)
    if array.ndim == 1 and array.size == _count(given.shape):
        return array.reshape(given.shape)
    if list(array.shape) != given.shape:
        raise InputError(
            f"input {spec.name!r}: shape says {given.shape}, data is {list(array.shape)}; expected {spec}"
        )
    return array


def array_from(raw: Any, spec: TensorSpec) -> Any:
    """Return the array of a JSON list, flat or nested, in the dtype of `spec`."""
    if spec.datatype == "BF16":
        raise InputError(f"input {spec.name!r}: {spec} is taken as binary data only")
    dtype = DTYPES[spec.datatype]
    try:
        return np.array(_FLAT[dtype.kind].decode(raw), dtype=dtype)
    except msgspec.ValidationError:
        pass  # nested, or wrong
    except OverflowError as wrong:
        raise InputError(f"input {spec.name!r}: expected {spec}: {wrong}") from None
    except (msgspec.DecodeError, RecursionError) as wrong:
        raise InputError(f"input {spec.name!r} is not JSON: {wrong}; expected {spec}") from None
    return _nested(raw, spec, dtype)


def _nested(raw: Any, spec: TensorSpec, dtype: Any) -> Any:
    """Return the array of nested lists, decoded strictly at the depth of the first element."""
    text = bytes(memoryview(raw)[:1024]).translate(None, b" \t\r\n")
    depth = len(text) - len(text.lstrip(b"["))
    if not 0 < depth <= MAX_DIMS:
        raise InputError(f"input {spec.name!r}: data is no list of numbers; expected {spec}")
    try:
        cells = _nested_decoder(depth, dtype.kind).decode(raw)
        return np.array(cells, dtype=dtype)
    except (msgspec.ValidationError, OverflowError) as wrong:
        raise InputError(f"input {spec.name!r}: expected {spec}: {wrong}") from None
    except (msgspec.DecodeError, RecursionError) as wrong:
        raise InputError(f"input {spec.name!r} is not JSON: {wrong}; expected {spec}") from None
    except ValueError:  # rows of different length
        raise InputError(
            f"input {spec.name!r}: the rows differ in length; expected {spec}"
        ) from None


_DECODERS: dict[tuple[int, str], Any] = {}
_CELL: dict[str, Any] = {"f": float, "i": int, "u": int, "b": bool}


def _nested_decoder(depth: int, kind: str) -> Any:
    if (depth, kind) not in _DECODERS:
        cell: Any = _CELL[kind]
        for _ in range(depth):
            cell = list[cell]
        _DECODERS[depth, kind] = msgspec.json.Decoder(cell)
    return _DECODERS[depth, kind]


def _outputs(
    asked: list[_Output] | None, signature: Signature, *, everything: bool
) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the names of the outputs wanted, and those wanted as binary."""
    known = [spec.name for spec in signature.outputs]
    if asked is None or not asked:
        return (), frozenset(known if everything else ())
    for output in asked:
        if output.name not in known:
            raise InputError(
                f"there is no output {output.name!r}", hint=f"known: {', '.join(known)}"
            )
    binary = {o.name for o in asked if o.parameters.get("binary_data", everything)}
    return tuple(o.name for o in asked), frozenset(binary)


def inflated(body: bytes | memoryview, encoding: str, limit: int) -> bytes:
    """Return the body of a compressed request, at most `limit` bytes."""
    window = 31 if encoding == "gzip" else 15
    stream = zlib.decompressobj(window)
    try:
        whole = stream.decompress(body, limit + 1)
    except zlib.error as wrong:
        raise InputError(f"the body is not {encoding}: {wrong}") from None
    if len(whole) > limit:
        raise InputError(f"the body is over {limit} bytes once it is inflated")
    if not stream.eof:
        raise InputError(f"the {encoding} body ends too early")
    return whole


def expected(signature: Signature) -> str:
    """Return the inputs of a signature as one phrase: "expected input 'x' FP32 [-1,64]"."""
    return "expected " + ", ".join(f"input {s.name!r} {s}" for s in signature.inputs)
