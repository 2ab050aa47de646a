"""Keras models on the torch backend: their configuration as JSON, their weights as tensors, and back.

Keras objects cannot be rebuilt without their constructor, as other modules are; their own
configuration says how they are made.  Rule: Keras is only imported where a model of it is.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from nbaas.errors import BundleError, DeployError

BACKEND = "torch"


def is_keras(item: Any) -> bool:
    """Whether `item` is a layer or model of Keras, told without importing it."""
    layer = layer_class()
    return layer is not None and isinstance(item, layer)


def layer_class() -> Any:
    """Return keras.Layer, None where Keras has not been imported."""
    return getattr(sys.modules.get("keras"), "Layer", None)


def configuration(layer: Any, path: str) -> dict[str, Any]:
    """Return what the layer is made of; what belongs to training alone is left out.

    Raises: DeployError: its class does not tell, or it has not been built.
    """
    import keras

    if not layer.built:
        raise DeployError(
            f"{path} has not been built: it has no weights yet", hint="call it on a batch first"
        )
    try:
        found: dict[str, Any] = keras.saving.serialize_keras_object(layer)
        told: dict[str, Any] = json.loads(json.dumps(_for_serving(found)))
    except (TypeError, ValueError, NotImplementedError) as refused:
        reason = str(refused).strip().partition("\n")[0]
        raise DeployError(
            f"{path} ({type(layer).__name__}) cannot be written down: {reason}",
            hint="give the class a get_config() that returns the arguments of its constructor",
        ) from refused
    return told


def _for_serving(config: Any) -> Any:
    if isinstance(config, Mapping):
        return {k: _for_serving(v) for k, v in config.items() if k != "compile_config"}
    if isinstance(config, list | tuple):
        return [_for_serving(each) for each in config]
    return config


def own_parts(layer: Any, config: Any) -> dict[str, Any]:
    """Return the user's classes and functions in a layer, by the name Keras asks for them."""
    layers = [layer, *_below(layer)]
    found: dict[str, Any] = {}
    for each in layers:
        cls = type(each)
        if not cls.__module__.startswith("keras."):
            found[_registered(cls)] = cls
    functions = {
        value.__name__: value
        for each in layers
        for value in vars(each).values()
        if inspect.isfunction(value) and not value.__module__.startswith("keras.")
    }
    return found | {name: functions[name] for name in _function_names(config) if name in functions}


def _below(layer: Any) -> Iterator[Any]:
    yield from layer._flatten_layers(include_self=False)  # noqa: SLF001 - Keras has no public walk


def _registered(cls: type) -> str:
    import keras

    return str(keras.saving.get_registered_name(cls))


def _function_names(config: Any) -> Iterator[str]:
    if isinstance(config, Mapping):
        if config.get("class_name") == "function":
            yield str(config.get("config"))
        for value in config.values():
            yield from _function_names(value)
    elif isinstance(config, list):
        for value in config:
            yield from _function_names(value)


def choose_backend() -> None:
    """Make Keras, which is imported next, run on torch."""
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = BACKEND


def remade(config: dict[str, Any], weights: list[Any], own: dict[str, Any], device: str) -> Any:
    """Return the layer that `configuration` told of, with its weights.

    Raises: BundleError: this Keras makes something else of it.
    """
    choose_backend()
    import keras
    import torch

    with keras.device(str(device)):
        try:
            layer = keras.saving.deserialize_keras_object(config, custom_objects=own)
        except TypeError:
            layer = _constructed(config, own)
    if [tuple(w.shape) for w in layer.weights] != [tuple(w.shape) for w in weights]:
        raise BundleError(
            f"Keras {keras.__version__} makes other weights of {config['class_name']} than are here",
            hint="deploy the model again with this Keras",
        )
    with torch.no_grad():
        for variable, value in zip(layer.weights, weights, strict=True):
            variable.assign(value.to(str(device)))
    return layer


def check_constructor(layer: Any, config: dict[str, Any], own: dict[str, Any], path: str) -> None:
    """Refuse a class of the user's whose configuration makes something else of it.

    Keras forgets the arguments a subclassed model was made with, unless its get_config tells them.
    """
    weights = [w.value.detach() for w in layer.weights]
    device = str(weights[0].device) if weights else "cpu"
    try:
        remade(config, weights, own, device)
    except Exception as failed:
        name = type(layer).__name__
        raise DeployError(
            f"{path}: Keras cannot make {name} again from its configuration",
            hint=f"give {name} a get_config() that returns the arguments of its constructor",
        ) from failed


def _constructed(config: dict[str, Any], own: dict[str, Any]) -> Any:
    """Return a layer whose constructor does not take what Keras adds to its configuration."""
    cls = own.get(config.get("registered_name") or config["class_name"])
    if cls is None:
        raise BundleError(f"Keras cannot make {config['class_name']} of its configuration")
    known = inspect.signature(cls.__init__).parameters
    layer = cls(**{k: v for k, v in config["config"].items() if k in known})
    if build := config.get("build_config"):
        layer.build_from_config(build)
    return layer


def input_names(model: Any) -> list[str]:
    """Return the names of the inputs of a Keras model that knows them, [] for any other."""
    inputs = getattr(model, "inputs", None) if is_keras(model) else None
    names = [str(each.name) for each in inputs or ()]
    if any(name.startswith("keras_tensor") for name in names):  # numbered by Keras, not named
        return [f"input_{i}" for i in range(len(names))] if len(names) > 1 else ["input"]
    return names


def blank_inputs(model: Any) -> list[Any] | None:
    """Return a row of zeros for each input of a Keras model, None where a size is open."""
    import torch

    inputs = getattr(model, "inputs", None) if is_keras(model) else None
    if not inputs or any(None in each.shape[1:] for each in inputs):
        return None
    return [torch.zeros(1, *each.shape[1:], dtype=getattr(torch, each.dtype)) for each in inputs]
