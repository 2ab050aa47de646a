"""How a model is called with named arrays, and what it gives back as named tensors.

Shape letters: B rows of a batch; everything else is the model's.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from nbaas.deploy.keras_models import input_names
from nbaas.deploy.manifest import Signature, TensorSpec
from nbaas.errors import DeployError

DATATYPES = {  # Open Inference name -> name of the torch dtype
    "BOOL": "bool",
    "UINT8": "uint8",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BF16": "bfloat16",
}
_BY_DTYPE = {f"torch.{dtype}": name for name, dtype in DATATYPES.items()}


def datatype_of(tensor: Any, name: str) -> str:
    """Return the Open Inference name of a tensor's dtype; DeployError where there is none."""
    try:
        return _BY_DTYPE[str(tensor.dtype)]
    except KeyError:
        raise DeployError(
            f"{name} is of {tensor.dtype}, which the protocol has no name for",
            hint="known: " + ", ".join(DATATYPES.values()),
        ) from None


def call(model: Any, inputs: list[Any], signature_inputs: tuple[TensorSpec, ...], how: str) -> Any:
    """Return what `model` gives for `inputs`, in the order of the signature."""
    if how == "mapping":
        return model({s.name: x for s, x in zip(signature_inputs, inputs, strict=True)})
    if how == "sequence":
        return model(list(inputs))
    if how == "keyword":
        return model(**{s.name: x for s, x in zip(signature_inputs, inputs, strict=True)})
    return model(*inputs)


def named_outputs(result: Any) -> tuple[str, dict[str, Any]]:
    """Return how `result` is built ('tensor', 'sequence', 'mapping') and its tensors by name.

    What is nested is named by its path: an LSTM gives output_0, output_1_0 and output_1_1.
    Raises: DeployError: there is no tensor in it, or something that is neither tensor nor None.
    """
    import torch

    result = _as_tensor(result)
    if isinstance(result, torch.Tensor):
        return "tensor", {"output": result}
    kind, cells = _cells(result)
    if cells is None:
        raise DeployError(
            f"the model returns a {type(result).__name__}, not a tensor",
            hint="return a tensor, or a tuple or dict of tensors; --post can convert",
        )
    prefix = "output_" if kind == "sequence" and not hasattr(result, "_fields") else ""
    tensors = dict(_flattened(cells, prefix))
    if not tensors:
        raise DeployError("the model returns no tensor")
    return kind, tensors


def _cells(result: Any) -> tuple[str, dict[str, Any] | None]:
    """Return the parts of a container by name; None for what is none."""
    if isinstance(result, Mapping):
        return "mapping", {str(key): value for key, value in result.items()}
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return "mapping", {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    if isinstance(result, tuple | list):
        names = getattr(result, "_fields", None) or [str(i) for i in range(len(result))]
        return "sequence", dict(zip(names, result, strict=True))
    return "", None


def _flattened(cells: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    import torch

    for key, cell in cells.items():
        name = f"{prefix}{key}"
        cell = _as_tensor(cell)  # noqa: PLW2901 - the same number, as a tensor
        if isinstance(cell, torch.Tensor):
            yield name, cell
        elif (inner := _cells(cell)[1]) is not None:
            yield from _flattened(inner, f"{name}_")
        elif cell is not None and not _is_cache(cell):
            raise DeployError(
                f"output {name!r} of the model is a {type(cell).__name__}, not a tensor",
                hint="return a tensor, or a tuple or dict of tensors; --post can convert",
            )


def _as_tensor(value: Any) -> Any:
    """Return an array or a number as a tensor, anything else as it is."""
    import numpy as np
    import torch

    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        return torch.from_numpy(np.array(value))
    if isinstance(value, bool | int | float):
        return torch.tensor(value)
    return value


def _is_cache(value: Any) -> bool:
    """Whether `value` is what a language model of transformers keeps for its next token."""
    cls = type(value)
    return cls.__module__.startswith("transformers.") and cls.__name__.endswith("Cache")


def outputs_in_order(result: Any, signature: Signature) -> list[Any]:
    """Return the output tensors of `result` in the order of the signature."""
    import torch

    if isinstance(result, torch.Tensor):
        return [result]
    _, tensors = named_outputs(result)
    return [tensors[spec.name] for spec in signature.outputs]


def argument_names(model: Any) -> tuple[list[str], int]:
    """Return the names of the positional arguments of `model`, and how many have no default."""
    from nbaas.deploy.pipeline import entry_of

    if names := input_names(model):
        return names, len(names)
    try:
        parameters = inspect.signature(entry_of(model)).parameters.values()
    except (TypeError, ValueError):
        return [], 0
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [p.name for p in positional], sum(p.default is p.empty for p in positional)
