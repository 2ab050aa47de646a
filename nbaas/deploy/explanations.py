"""An endpoint asked why: the attributions of its answers as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbaas.config import Settings
from nbaas.deploy.client import ask_model
from nbaas.deploy.explain import METHODS
from nbaas.deploy.registry import found_endpoint, read_version
from nbaas.deploy.wire import decode_outputs, encode_inputs

FACTS = ("target", "score", "baseline")


@dataclass(frozen=True, slots=True)
class Attributions:
    """What moved the answers of an endpoint; B rows.

    `parts` and `inputs` hold (B, ...) arrays by input.  `score` is the explained output of each row,
    `baseline` the same for an empty input; the parts of a row add up to about their difference.
    """

    name: str
    version: int
    method: str
    parts: dict[str, Any]
    inputs: dict[str, Any]
    target: Any  # (B,) columns of the output, -1 where it is one number
    score: Any
    baseline: Any


def ask_why(  # noqa: PLR0913 - the flags of %explain
    settings: Settings,
    name: str,
    inputs: Any,
    *,
    version: int | None = None,
    method: str = "",
    target: int = -1,
    steps: int = 64,
    window: Sequence[int] = (),
    input_name: str = "",
    output: str = "",
    timeout: float = 60.0,
) -> Attributions:
    """Return the attributions of the endpoint's answers to `inputs`, at most 16 rows.

    Raises: InputError: it does not fit, or has no gradients.  MissingPackageError: no captum there.
    """
    record = found_endpoint(settings.endpoints, name)
    number = version or record.current
    signature = read_version(settings.endpoints, name, number).signature
    inputs = _with_rows(inputs, signature)
    wishes = {"method": method, "target": target, "steps": steps, "window": list(window),
              "input": input_name, "output": output}  # fmt: skip
    header_length, body = encode_inputs(inputs, signature, wishes)
    where = f"{name}/versions/{version}" if version else name
    path = f"/v2/models/{where}/explain"
    found = decode_outputs(*ask_model(settings, name, path, header_length, body, timeout))
    facts = {key: found.pop(key) for key in FACTS}
    given = inputs if isinstance(inputs, dict) else {signature.inputs[0].name: inputs}
    arrays = {key: _array(given[key]) for key in found}
    used = method or METHODS[0]
    return Attributions(name, number, used, found, arrays, **facts)


def _with_rows(inputs: Any, signature: Any) -> Any:
    """Return `inputs` with a dimension of rows where it is one row without it."""
    if isinstance(inputs, dict):
        return inputs
    if hasattr(inputs, "to_numpy"):  # a data frame, or one row of it
        inputs = inputs.to_numpy()
    array = inputs if hasattr(inputs, "detach") else np.asarray(inputs)
    if array.ndim == len(signature.inputs[0].shape) - 1:
        return array[None]
    return array


def _array(value: Any) -> Any:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        return value.numpy()
    return np.asarray(value)
