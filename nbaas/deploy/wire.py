"""What a client sends and gets: arrays as an Open Inference request with binary tensors, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from nbaas.deploy.codec import DTYPES, expected
from nbaas.deploy.manifest import Signature, TensorSpec
from nbaas.errors import EndpointError, InputError


def encode_inputs(
    inputs: Any,
    signature: Signature,
    parameters: Mapping[str, Any] | None = None,
    *,
    binary: bool = True,
) -> tuple[int, bytes]:
    """Return header length and body of a request, whose answer may be `binary`.

    Raises: InputError: it does not fit.
    """
    given = inputs if isinstance(inputs, Mapping) else {signature.inputs[0].name: inputs}
    if extra := sorted(set(map(str, given)) - {spec.name for spec in signature.inputs}):
        raise InputError(f"there is no input {extra[0]!r}", hint=expected(signature))
    if missing := [spec.name for spec in signature.inputs if spec.name not in given]:
        raise InputError(f"input {missing[0]!r} is missing", hint=expected(signature))
    described, tails = [], []
    for spec in signature.inputs:
        shape, data = _raw(given[spec.name], spec)
        described.append(
            {
                "name": spec.name,
                "datatype": spec.datatype,
                "shape": shape,
                "parameters": {"binary_data_size": len(data)},
            }
        )
        tails.append(data)
    wishes = {**(parameters or {}), "binary_data_output": binary}
    header = json.dumps({"inputs": described, "parameters": wishes}).encode()
    return len(header), b"".join([header, *tails])


def _raw(value: Any, spec: TensorSpec) -> tuple[list[int], bytes]:
    """Return shape and bytes of a value in the dtype of `spec`."""
    if hasattr(value, "detach"):  # a tensor
        value = value.detach().cpu()
        if spec.datatype == "BF16":
            import torch

            return list(value.shape), value.to(torch.bfloat16).view(torch.int16).numpy().tobytes()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    try:
        array = np.asarray(value)
    except ValueError:
        raise InputError(
            f"input {spec.name!r}: the rows differ in length; expected {spec}"
        ) from None
    wanted = DTYPES[spec.datatype]
    if array.dtype != wanted:
        _check_cast(array, wanted, spec)
        array = array.astype(wanted)
    return list(array.shape), np.ascontiguousarray(array).tobytes()


def _check_cast(array: Any, wanted: Any, spec: TensorSpec) -> None:
    """Refuse what would lose its meaning: text, fractions as integers, numbers out of range."""
    got = f"input {spec.name!r}: expected {spec}, got {array.dtype} {list(array.shape)}"
    if array.dtype.kind not in "biuf" or (wanted.kind in "iub" and array.dtype.kind == "f"):
        raise InputError(got)
    if wanted.kind == "b" and array.dtype.kind != "b":
        raise InputError(got)
    if wanted.kind in "iu" and array.size:
        limits = np.iinfo(wanted)
        if array.min() < limits.min or array.max() > limits.max:
            raise InputError(f"input {spec.name!r}: a value is out of the range of {spec.datatype}")


def _listed(output: Mapping[str, Any], dtype: Any) -> Any:
    """Return the array of an output in JSON, where BF16 comes as numbers."""
    kind = np.float32 if output["datatype"] == "BF16" else dtype
    return np.array(output["data"], dtype=kind).reshape(output["shape"])


def decode_outputs(body: bytes, headers: Mapping[str, str]) -> Any:
    """Return the outputs of an answer: one array, or a dict by name where there are several."""
    lower = {name.lower(): value for name, value in headers.items()}
    length = int(lower.get("inference-header-content-length", len(body)))
    answered = json.loads(body[:length])
    found, offset = {}, length
    for output in answered["outputs"]:
        dtype = DTYPES.get(output["datatype"])
        if dtype is None:
            raise EndpointError(f"output {output['name']!r} is of {output['datatype']}")
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            array = _listed(output, dtype)
        else:
            array = np.frombuffer(body, dtype, size // dtype.itemsize, offset).reshape(
                output["shape"]
            )
            offset += size
        if output["datatype"] == "BF16" and size is not None:
            array = (array.astype(np.uint32) << 16).view(np.float32)
        found[output["name"]] = array
    return next(iter(found.values())) if len(found) == 1 else found
