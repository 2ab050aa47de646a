"""The state of tensors, arrays and random generators: their memory, compared with what was loaded."""

from __future__ import annotations

import random
from typing import Any

from nbaas.bundle.memory import LoadedRegions
from nbaas.bundle.reducers import array_bounds, device_bytes, tensor_bytes
from nbaas.bundle.states import Kind


def _note_tensor(tensor: Any) -> Any:
    grad = tensor.grad if tensor.is_leaf else None
    return _geometry(tensor), tensor.requires_grad, grad


def _geometry(tensor: Any) -> tuple[Any, ...]:
    import torch

    if tensor.layout is not torch.strided:
        return (tensor.layout, tuple(tensor.shape), tensor.dtype)
    place = (tensor.device, tensor.data_ptr())
    return (*place, tuple(tensor.shape), tensor.stride(), tensor.dtype)


def _tensor_difference(tensor: Any, noted: Any, regions: LoadedRegions) -> Any:
    geometry, requires_grad, grad = noted
    now: dict[str, Any] = {}
    if _geometry(tensor) != geometry or _memory_changed(tensor, regions):
        now["data"] = tensor.detach()
    if tensor.requires_grad != requires_grad and tensor.is_leaf:
        now["requires_grad"] = tensor.requires_grad
    if tensor.is_leaf and (tensor.grad is not grad or grad is not None):
        now["grad"] = None if tensor.grad is None else tensor.grad.detach()
    return now or None


def _memory_changed(tensor: Any, regions: LoadedRegions) -> bool:
    import torch

    if tensor.layout is not torch.strided or tensor.device.type == "meta":
        return False
    nbytes = tensor_bytes(tensor)
    if not nbytes:
        return False
    if tensor.device.type == "cpu":
        return regions.changed(tensor.data_ptr(), nbytes)
    start = tensor.storage_offset() * tensor.element_size()
    return regions.changed_on_device(tensor.data_ptr(), device_bytes(tensor, start, nbytes))


def _set_tensor(target: Any, state: dict[str, Any]) -> None:
    import torch

    with torch.no_grad():
        if "data" in state:
            _set_data(target, state["data"])
        if "requires_grad" in state and target.is_leaf:
            target.requires_grad_(state["requires_grad"])
        if "grad" in state and target.is_leaf:
            grad = state["grad"]
            target.grad = None if grad is None else grad.to(target.device, target.dtype)


def _set_data(target: Any, data: Any) -> None:
    fits = target.shape == data.shape and target.dtype == data.dtype
    if fits and (target.device == data.device or data.device.type == "cpu"):
        target.copy_(data)  # into the same memory: views of it see it too
    else:
        target.data = data


def _note_array(array: Any) -> Any:
    # Not its address, which is slow to ask for: memory that is no region's counts as changed.
    form = array.shape, array.strides, array.dtype
    return form, _copy_where_elsewhere(array)


def _copy_where_elsewhere(array: Any) -> Any:
    """Return a copy of an array whose memory no region holds; None of any other."""
    import numpy as np

    elsewhere = type(array) is not np.ndarray or array.dtype.hasobject
    return array.copy() if elsewhere else None


def _array_difference(array: Any, noted: Any, regions: LoadedRegions) -> Any:
    (place, before), (now, copy) = noted, _note_array(array)
    if now != place:
        return array.copy()
    if before is not None:
        return None if _equal_elements(copy, before) else copy
    start, end = array_bounds(array)
    return array.copy() if end > start and regions.changed(start, end - start) else None


def _equal_elements(first: Any, second: Any) -> bool:
    if first.dtype.hasobject:
        return all(a is b for a, b in zip(first.flat, second.flat, strict=True))
    return bool(first.tobytes() == second.tobytes())


def _set_array(target: Any, data: Any) -> None:
    import numpy as np

    if target.shape != data.shape:
        target.resize(data.shape, refcheck=False)
    np.copyto(target, data)


# ---- random generators -------------------------------------------------------------------------


def _generator_difference(generator: Any, noted: Any, _: LoadedRegions) -> Any:
    import torch

    now = generator.get_state()
    return None if torch.equal(now, noted) else now


def _random_difference(generator: random.Random, noted: Any, _: LoadedRegions) -> Any:
    now = generator.getstate()
    return None if now == noted else now


def _numpy_state(generator: Any) -> Any:
    source = getattr(generator, "bit_generator", generator)
    return source.state if hasattr(source, "state") else generator.get_state(legacy=False)


def _numpy_difference(generator: Any, noted: Any, _: LoadedRegions) -> Any:
    now = _numpy_state(generator)
    return None if repr(now) == repr(noted) and _same_keys(now, noted) else now


def _same_keys(now: Any, noted: Any) -> bool:
    first, second = now.get("state"), noted.get("state")
    if isinstance(first, dict) and "key" in first:
        return bool((first["key"] == second["key"]).all())
    return bool(first == second)


def _set_numpy(generator: Any, state: Any) -> None:
    source = getattr(generator, "bit_generator", generator)
    if hasattr(source, "state"):
        source.state = state
    else:
        generator.set_state(state)


def _get_state(generator: Any) -> Any:
    return generator.get_state()


def _set_state(generator: Any, state: Any) -> None:
    generator.set_state(state)


TENSOR = Kind(_note_tensor, _tensor_difference, _set_tensor)
ARRAY = Kind(_note_array, _array_difference, _set_array)
TORCH_GENERATOR = Kind(_get_state, _generator_difference, _set_state)
RANDOM = Kind(random.Random.getstate, _random_difference, random.Random.setstate)
NUMPY_GENERATOR = Kind(_numpy_state, _numpy_difference, _set_numpy)
