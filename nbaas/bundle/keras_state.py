"""What training changes in a Keras model: its weights and its optimizer's, found and set.

A Keras model travels as its own archive, and beside it the parameters of torch that its variables
hold: those that models share, an autoencoder and its encoder, are then one on the other side too.
Rule: Keras is looked up among the loaded modules, never imported.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

from nbaas.bundle.memory import LoadedRegions
from nbaas.bundle.states import Kind

FOLLOWED = ("history", "stop_training")  # attributes that fit() sets


def layer_class() -> Any:
    """Return keras.Layer, None where Keras is not in use."""
    return getattr(sys.modules.get("keras"), "Layer", None)


def _variables(layer: Any) -> tuple[list[Any], list[Any]]:
    """Return the variables of a layer and those of its optimizer."""
    optimizer = getattr(layer, "optimizer", None)
    return list(layer.weights), list(getattr(optimizer, "variables", None) or ())


def _mark(variable: Any) -> Any:
    value = getattr(variable, "value", None)
    # Changes in place count up the version; a new tensor is another object.
    return id(value), getattr(value, "_version", None), None if value is None else str(value.shape)


def _note(layer: Any) -> Any:
    weights, optimizer = _variables(layer)
    return list(map(_mark, weights)), list(map(_mark, optimizer))


def _difference(layer: Any, noted: Any, _: LoadedRegions) -> Any:
    if _note(layer) == noted:
        return None
    weights, optimizer = _variables(layer)
    return {
        "build": layer.get_build_config() if hasattr(layer, "get_build_config") else None,
        "weights": [_plain(variable) for variable in weights],
        "optimizer": [_plain(variable) for variable in optimizer],
        "attributes": {name: vars(layer)[name] for name in FOLLOWED if name in vars(layer)},
    }


def _plain(variable: Any) -> Any:
    value = variable.value
    return value.detach() if hasattr(value, "detach") else value


def _apply(layer: Any, state: dict[str, Any]) -> None:
    if not layer.built and state["build"]:
        layer.build_from_config(state["build"])
    _assign(list(layer.weights), state["weights"])
    optimizer = getattr(layer, "optimizer", None)
    if optimizer is not None and state["optimizer"]:
        if not optimizer.built:
            optimizer.build(layer.trainable_variables)
        _assign(list(optimizer.variables), state["optimizer"])
    for name, value in state["attributes"].items():
        with contextlib.suppress(AttributeError):
            setattr(layer, name, value)


def _assign(variables: list[Any], values: list[Any]) -> None:
    if len(variables) == len(values):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def parameters_of(layer: Any) -> list[Any] | None:
    """Return the tensors of torch that hold the weights of a layer; None where it has no such."""
    held = [vars(variable).get("_value") for variable in layer.weights]
    torch = sys.modules.get("torch")
    if torch is None or not held or not all(isinstance(value, torch.Tensor) for value in held):
        return None
    return held


def set_parameters(layer: Any, held: list[Any]) -> None:
    """Let the variables of a layer, just made of its archive, hold these very tensors."""
    variables = list(layer.weights)
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != [tuple(tensor.shape) for tensor in held]:
        return
    for variable, tensor in zip(variables, held, strict=True):
        variable._value = tensor  # noqa: SLF001 - assigning would copy
    for part in layer._flatten_layers():  # noqa: SLF001 - the public list lacks what is nested
        part._track_variables()  # noqa: SLF001 - it names them to torch anew


KERAS = Kind(_note, _difference, _apply)


def made_quietly(make: Callable[..., Any], *parts: Any) -> Any:
    """Return what Keras makes of its archive, without its remarks on an optimizer not used yet."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Skipping variable loading for optimizer")
        return make(*parts)
