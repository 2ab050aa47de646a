"""`nbaas.log(acc=0.9)`: what a loop tells about itself, besides what is recorded anyway.

Rule: what is told goes to the recorder of this process: a rank's journal, the cell that runs in the
notebook, or nothing.  So a cell that logs is an ordinary cell with and without `%%train`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from nbaas.errors import UsageError
from nbaas.worker import pictures
from nbaas.worker.pictures import Histogram, Picture

MOST_WEIGHTS = 128  # parameters of one module whose histograms are kept

Entry = float | Picture | Histogram


class Recorder(Protocol):
    """Takes what is logged; `step` is None where the caller named none."""

    def record(self, values: Mapping[str, Any], step: int | None) -> None: ...


def log(
    values: Mapping[str, Any] | None = None, /, *, step: int | None = None, **named: Any
) -> None:
    """Record values by name: `nbaas.log(acc=0.9, step=epoch)`, `nbaas.log({"val/loss": loss})`.

    A number or a tensor of one element becomes a point of a curve, NaN and infinities too; a figure,
    a PIL image or an array (H, W) or (H, W, 1|3|4), as a tensor also (1|3|4, H, W), a picture; a module
    the histograms of its parameters, as does `nbaas.histogram(tensor)`.  A nested mapping names its
    values 'outer/inner'.  `step` is the place on the axis: the optimizer steps done, if not given.
    Under `%%train` every rank calls it and the value is recorded once.
    Raises: UsageError: a value that is none of these.
    """
    given = {**values, **named} if values else named
    _current.recorder.record(given, step if step is None or type(step) is int else whole_step(step))


def histogram(values: Any) -> Histogram:
    """Return how the elements of a tensor or array are distributed, for `nbaas.log(grads=...)`."""
    return pictures.histogram_of(_array("values", values))


@dataclass(slots=True)
class _Silent:
    """Records nothing: outside of ranks and notebooks nobody looks."""

    def record(self, values: Mapping[str, Any], step: int | None) -> None:  # noqa: ARG002 - as all
        for _ in entries(values):
            pass


@dataclass(slots=True)
class _Current:
    recorder: Recorder


_current = _Current(_Silent())


def set_recorder(recorder: Recorder | None) -> None:
    """Let this process log to `recorder`; None: to nobody."""
    _current.recorder = recorder or _Silent()


def whole_step(step: Any) -> int:
    """Return `step` as a whole number; UsageError where it is none."""
    try:
        number = int(step)
        if number == step:
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise UsageError(f"step={step!r} is not a whole number", hint="nbaas.log(acc=0.9, step=epoch)")


def entries(values: Mapping[str, Any]) -> Iterator[tuple[str, Entry]]:
    """Yield each value as what it is recorded as; a collective where a value is sharded."""
    for name, value in values.items():
        if type(value) is float and type(name) is str:
            yield name, value
        else:
            yield from _entries(str(name), value)


def _entries(name: str, value: Any) -> Iterator[tuple[str, Entry]]:
    if isinstance(value, Picture | Histogram):
        yield name, value
    elif isinstance(value, Mapping):
        yield from entries({f"{name}/{inner}": one for inner, one in value.items()})
    elif (number := _number(name, value)) is not None:
        yield name, number
    elif _is_a(value, "torch.nn", "Module"):
        yield from _weights(name, value)
    elif (figure := _figure(value)) is not None:
        yield name, pictures.of_figure(figure)
    elif _is_a(value, "PIL.Image", "Image"):
        yield name, pictures.of_pil(value)
    else:
        yield name, pictures.of_array(_array(name, value), name)


def _number(name: str, value: Any) -> float | None:
    """Return a number, or the one element of a tensor or array; None for what holds no number."""
    if isinstance(value, bool | int | float):
        try:
            return float(value)
        except OverflowError:  # a whole number beyond 1e308
            return math.inf if value > 0 else -math.inf
    if _is_a(value, "torch", "Tensor"):
        alone = value.numel() == 1
    else:
        alone = getattr(value, "size", None) == 1 and hasattr(value, "dtype")
    if not alone:
        return None
    found = value.item()
    if not isinstance(found, bool | int | float):
        raise UsageError(f"{name}={found!r} is no real number", hint=f"log abs({name})")
    return float(found)


def _weights(name: str, module: Any) -> Iterator[tuple[str, Entry]]:
    for at, (part, parameter) in enumerate(module.named_parameters()):
        if at == MOST_WEIGHTS:
            return
        yield f"{name}/{part}", pictures.histogram_of(_array(part, parameter))


def _array(name: str, value: Any) -> Any:
    """Return a tensor or an array as a numpy array; UsageError for anything else."""
    import numpy as np

    if _is_a(value, "torch", "Tensor"):
        whole = value.detach()
        # A batch in parts is gathered: every rank is here.
        whole = whole.whole() if hasattr(whole, "whole") else whole
        whole = whole.float() if whole.is_floating_point() else whole
        return whole.cpu().numpy()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return value
    shown = repr(value) if isinstance(value, str) else f"a {type(value).__name__}"
    raise UsageError(
        f"{name}: {shown} cannot be logged",
        hint="log a number, a tensor of one element, an image, a figure, a module or a histogram",
    )


def _figure(value: Any) -> Any:
    """Return a matplotlib figure, also that of axes; None where there is none."""
    if _is_a(value, "matplotlib.figure", "Figure"):
        return value
    if _is_a(value, "matplotlib.axes", "Axes"):
        return value.figure
    return None


def _is_a(value: Any, module: str, name: str) -> bool:
    """Tell whether `value` is of a class whose module is imported already: none else can be."""
    cls = getattr(sys.modules.get(module), name, None)
    return isinstance(cls, type) and isinstance(value, cls)
