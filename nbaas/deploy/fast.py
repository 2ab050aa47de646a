"""The common request in one pass: one input, JSON, nothing unusual; None where codec has to look.

Rule: what is decoded here is what codec and plain would give; a test compares them.  Errors are theirs.
"""

from __future__ import annotations

import types
from typing import Any

import msgspec
import numpy as np

from nbaas.deploy.codec import DTYPES, Request
from nbaas.deploy.manifest import Signature

_FLAT: dict[str, Any] = {"f": list[float], "i": list[int], "u": list[int], "b": list[bool]}


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
        self._inner = spec.shape[1:]
        self._fixed = -1 not in self._inner
        flat: Any = _FLAT[self._dtype.kind]
        nested: Any = flat
        for _ in self._inner:
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

    def infer(self, body: bytes) -> Request | None:
        """Return an Open Inference request with flat data."""
        if not self.usable:
            return None
        try:
            asked = self._infer.decode(body)
            (given,) = asked.inputs
            array = np.array(given.data, self._dtype).reshape(given.shape)
        except (ValueError, RecursionError, OverflowError):  # msgspec's errors are ValueErrors
            return None
        if given.name != self._name or given.datatype != self._datatype:
            return None
        return Request([array], asked.id) if self._fits(array) else None

    def plain(self, body: bytes) -> Request | None:
        """Return a request of the plain form, a list or `{"inputs": list}`."""
        if not self.usable:
            return None
        try:
            bare = body[:1] == b"["
            cells = self._list.decode(body) if bare else self._plain.decode(body).inputs
            array = np.array(cells, self._dtype)
        except (ValueError, RecursionError, OverflowError):
            return None
        return Request([array], style="plain") if self._fits(array) else None

    def _fits(self, array: Any) -> bool:
        shape = array.shape
        if len(shape) != len(self._inner) + 1 or not shape[0]:
            return False
        if self._fixed:
            return bool(shape[1:] == self._inner)
        pairs = zip(shape[1:], self._inner, strict=True)
        return all(want in (-1, got) for got, want in pairs)
