"""The common request in one pass: one input, JSON, nothing unusual; None where codec has to look.

Rule: what is decoded here is what codec and plain would give; a test compares them.  Errors are theirs.
Rows of numbers stay bytes until their batch is made: one array for all, none for each.
"""

from __future__ import annotations

import math
import struct
import types
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from nbaas.deploy.codec import DTYPES, NOTHING, Request
from nbaas.deploy.manifest import Signature

_FLAT: dict[str, Any] = {"f": list[float], "i": list[int], "u": list[int], "b": list[bool]}
_PACKED = {
    "FP32": "f",
    "FP64": "d",
    "INT64": "q",
    "INT32": "i",
    "INT16": "h",
    "INT8": "b",
    "UINT8": "B",
    "BOOL": "?",
}
LONGEST_ROW = 1 << 16  # numbers; beyond that an argument for each is no gain


class Packed:
    """A request whose one input is bytes as yet; otherwise as codec's Request."""

    __slots__ = ("_decoder", "id", "packed", "rows", "style")
    outputs: tuple[str, ...] = ()
    binary = NOTHING
    squeeze = False

    def __init__(
        self, decoder: FastDecoder, packed: bytes, rows: int, style: str, identity: str | None
    ) -> None:
        self._decoder = decoder
        self.packed = packed
        self.rows = rows
        self.style = style
        self.id = identity

    @property
    def arrays(self) -> list[Any]:
        return [self._decoder.stacked([self])]


class FastDecoder:
    """Decoders made for one signature; `infer` and `plain` give a request or None."""

    def __init__(self, signature: Signature) -> None:
        spec = signature.inputs[0]
        self.usable = (
            len(signature.inputs) == 1
            and spec.datatype != "BF16"
            and spec.shape[:1] == (-1,)
            and spec.name not in ("inputs", "instances")
        )
        if not self.usable:
            return
        self._name, self._datatype = spec.name, spec.datatype
        self._dtype = DTYPES[spec.datatype]
        self.inner = spec.shape[1:]
        self._fixed = -1 not in self.inner
        self._width = math.prod(self.inner)
        self._letter = _PACKED.get(spec.datatype, "")
        self._packs = self._fixed and bool(self._letter) and 0 < self._width <= LONGEST_ROW
        self._pack = struct.Struct(f"<{self._width}{self._letter}").pack if self._packs else None
        self._make_decoders()

    def _make_decoders(self) -> None:
        flat: Any = _FLAT[self._dtype.kind]
        nested: Any = flat
        for _ in self.inner:
            nested = types.GenericAlias(list, (nested,))
        one: Any = msgspec.defstruct(
            "One",
            [("name", str), ("shape", list[int]), ("datatype", str), ("data", flat)],
            forbid_unknown_fields=True,
        )
        infer = msgspec.defstruct(
            "Infer", [("inputs", list[one]), ("id", str | None, None)], forbid_unknown_fields=True
        )
        plain = msgspec.defstruct("Plain", [("inputs", nested)], forbid_unknown_fields=True)
        self._infer: msgspec.json.Decoder[Any] = msgspec.json.Decoder(infer)
        self._plain: msgspec.json.Decoder[Any] = msgspec.json.Decoder(plain)
        self._list = msgspec.json.Decoder(nested)

    def infer(self, body: bytes) -> Request | Packed | None:
        """Return an Open Inference request with flat data."""
        if not self.usable:
            return None
        try:
            asked = self._infer.decode(body)
            (given,) = asked.inputs
            if given.name != self._name or given.datatype != self._datatype:
                return None
            shape, data = given.shape, given.data
            if self._pack is not None and tuple(shape[1:]) == self.inner and shape[0] == 1:
                return Packed(self, self._pack(*data), 1, "v2", asked.id)
            array = np.array(data, self._dtype).reshape(shape)
        except (ValueError, IndexError, RecursionError, OverflowError, struct.error):
            return None  # msgspec's errors are ValueErrors
        return Request([array], asked.id) if self._fits(array) else None

    def plain(self, body: bytes) -> Request | Packed | None:
        """Return a request of the plain form, a list or `{"inputs": list}`."""
        if not self.usable:
            return None
        try:
            bare = body[:1] == b"["
            cells = self._list.decode(body) if bare else self._plain.decode(body).inputs
            if self._pack is not None and len(self.inner) == 1 and cells:
                pack = self._pack
                packed = b"".join([pack(*row) for row in cells])
                return Packed(self, packed, len(cells), "plain", None)
            array = np.array(cells, self._dtype)
        except (ValueError, RecursionError, OverflowError, struct.error):
            return None
        return Request([array], style="plain") if self._fits(array) else None

    def stacked(self, requests: Iterable[Packed]) -> Any:
        """Return the rows of `requests` as one array (B, ...), writable and of its own."""
        data = bytearray().join([request.packed for request in requests])
        return np.frombuffer(data, self._dtype).reshape(-1, *self.inner)

    def _fits(self, array: Any) -> bool:
        shape = array.shape
        if len(shape) != len(self.inner) + 1 or not shape[0]:
            return False
        if self._fixed:
            return bool(shape[1:] == self.inner)
        pairs = zip(shape[1:], self.inner, strict=True)
        return all(want in (-1, got) for got, want in pairs)
