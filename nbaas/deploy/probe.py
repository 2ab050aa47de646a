"""What a model takes and gives, found by running it: signature, golden output, batchability.

Shape letters: B rows of a batch.  Rule: the user's model is as it was afterwards (mode, random
numbers), and nothing runs in inference mode here: a tensor cached in the model must still train.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nbaas.deploy.calling import argument_names, call, datatype_of, named_outputs
from nbaas.deploy.keras_models import blank_inputs, input_names
from nbaas.deploy.manifest import Signature, TensorSpec
from nbaas.deploy.streamed import First, first_items, item_specs, side_by_side
from nbaas.errors import DeployError

GOLDEN_ROWS = 4
ROWS_OF_TOKENS = 2  # dimensions
RELATIVE, ABSOLUTE = 1e-4, 1e-5  # how far a replica's output may lie from the golden one


Specs = tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class Probed:
    signature: Signature
    inputs: list[Any]  # tensors, (B, ...), B at most GOLDEN_ROWS
    outputs: list[Any]
    batchable: bool
    deterministic: bool
    streams: bool = False  # the outputs are those of one item
    interleaves: bool = True  # two streams side by side give what each gives alone
    later: tuple[list[Any], ...] = ()  # outputs of the items after the first


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Hold `model` in eval mode without gradients; modes and random state come back afterwards."""
    import torch

    modes = {module: module.training for module in model.modules()}
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        try:
            model.eval()
            yield
        finally:
            if modes.get(model):
                model.train()
            for module, training in modes.items():
                module.training = training


def probe(model: Any, example: Any) -> Probed:
    """Run `model`, which is in eval mode, on `example` and return what that shows.

    Raises: DeployError: no example can be had, or the model cannot run on it.
    """
    names, inputs, how = named_inputs(model, example)
    inputs = [x.detach().to(_device(model)) for x in inputs]
    asked = inputs
    inputs, result = _first_run(model, names, asked, how)
    if isinstance(result, Iterator):
        return _probed_stream(model, names, asked, how)
    returns, outputs = named_outputs(result)
    specs = tuple(_spec(n, x, f"input {n!r}") for n, x in zip(names, inputs, strict=True))
    deterministic = _same(list(outputs.values()), _again(model, specs, inputs, how))
    batchable = deterministic and _rows_are_independent(model, specs, inputs, how)
    if batchable:
        inputs = [x[:GOLDEN_ROWS] for x in inputs]
        returns, outputs = named_outputs(call(model, inputs, specs, how))
    given = tuple(_spec(n, y, f"output {n!r}") for n, y in outputs.items())
    specs, given = _with_open_lengths(model, specs, inputs, how, given)
    signature = Signature(
        inputs=specs,
        outputs=given,
        call=how,
        returns=returns,
    )
    return Probed(signature, inputs, list(outputs.values()), batchable, deterministic)


def _probed_stream(model: Any, names: list[str], inputs: list[Any], how: str) -> Probed:
    """Return what the first items that `model` yields for its example show."""
    first = First(model)
    inputs, result = _first_run(first, names, inputs, how)
    returns, outputs = named_outputs(result)
    specs = tuple(_spec(n, x, f"input {n!r}") for n, x in zip(names, inputs, strict=True))
    given = tuple(_spec(n, y, f"output {n!r}") for n, y in outputs.items())
    specs, given = _with_open_lengths(first, specs, inputs, how, given)
    signature = Signature(inputs=specs, outputs=given, call=how, returns=returns)
    items = first_items(model, signature, inputs)
    repeated = first_items(model, signature, inputs)
    return Probed(
        replace(signature, outputs=item_specs(signature.outputs, items)),
        inputs,
        items[0],
        batchable=False,
        deterministic=len(items) == len(repeated)
        and all(_same(a, b) for a, b in zip(items, repeated, strict=True)),
        streams=True,
        interleaves=_interleaves(model, signature, inputs),
        later=tuple(items[1:]),
    )


def _interleaves(model: Any, signature: Signature, inputs: list[Any]) -> bool:
    """Whether two streams, an item each in turn, give the items that each gives alone.

    A model that keeps the state of its stream in itself, a cache say, does not.
    """
    unlike = [_other_row(x) if x.dim() else x for x in inputs]
    for other in (unlike, inputs):  # the model may not take what was made up
        try:
            alone = [side_by_side(model, signature, [given])[0] for given in (inputs, other)]
        except Exception:  # noqa: BLE001, S112 - the user's own model
            continue
        try:
            both = side_by_side(model, signature, [inputs, other])
        except Exception:  # noqa: BLE001 - one at a time is always right
            return False
        return all(
            len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
            for a, b in zip(alone, both, strict=True)
        )
    return False


def named_inputs(model: Any, example: Any) -> tuple[list[str], list[Any], str]:
    """Return names, tensors and way of calling for an example in any of its forms.

    A tensor or array is the first argument; a tuple holds the arguments in order (what is over, a
    label, is left out); a mapping holds them by name; a loader gives its first batch.
    """
    if example is None:
        example = _guessed(model)
    if hasattr(example, "__iter__") and hasattr(example, "dataset"):
        example = next(iter(example))
    if isinstance(example, Mapping):
        tensors = {
            str(name): _tensor(value, f"example[{name!r}]") for name, value in example.items()
        }
        how = "keyword" if _takes_keywords(model, tensors) else "mapping"
        return list(tensors), list(tensors.values()), how
    known, required = argument_names(model)
    if isinstance(example, tuple) or (isinstance(example, list) and _holds_tensors(example)):
        given = list(example)[: max(required, 1)] if len(example) > len(known) else list(example)
        given = given[:required] if required and len(given) > required and known else given
    else:
        given = [example]
    if how := _as_one_list(model, example, known):
        given = list(example)
        known = known if len(known) == len(given) else []
    names = [known[i] if i < len(known) else f"input_{i}" for i in range(len(given))]
    return (
        names,
        [_tensor(x, f"example {n!r}") for n, x in zip(names, given, strict=True)],
        how or "positional",
    )


def _takes_keywords(model: Any, tensors: Mapping[str, Any]) -> bool:
    """Whether the model's arguments have these names; else it takes them as one dictionary."""
    from nbaas.deploy.pipeline import entry_of

    if input_names(model):
        return False
    try:
        parameters = inspect.signature(entry_of(model)).parameters.values()
    except (TypeError, ValueError):
        return True
    if any(p.kind is p.VAR_KEYWORD for p in parameters) or len(parameters) != 1:
        return True
    return all(name in {p.name for p in parameters} for name in tensors)


def _as_one_list(model: Any, example: Any, known: list[str]) -> str:
    """Return 'sequence' where the model takes a list of tensors as one argument, else ''."""
    if not isinstance(example, list | tuple) or not _holds_tensors(list(example)):
        return ""
    if input_names(model):
        return "sequence" if len(known) > 1 and len(example) == len(known) else ""
    if not isinstance(example, list) or len(known) != 1 or len(example) == 1:
        return ""
    try:  # a batch of a loader is a list too: inputs and labels
        named_outputs(model(list(example)))
    except Exception:  # noqa: BLE001 - then it is none
        return ""
    return "sequence"


def _holds_tensors(example: list[Any]) -> bool:
    return bool(example) and all(hasattr(cell, "dtype") for cell in example)


def _tensor(value: Any, what: str) -> Any:
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if hasattr(value, "to_numpy"):  # a data frame
        value = value.to_numpy()
    try:
        array = np.asarray(value)
        if isinstance(value, float | list | tuple) and array.dtype == np.float64:
            array = array.astype(np.float32)  # as torch.tensor([[0.5]]) would be
        return torch.as_tensor(array)
    except (TypeError, ValueError, RuntimeError) as wrong:
        raise DeployError(f"{what} cannot be made a tensor: {wrong}") from wrong


def _guessed(model: Any) -> Any:
    """Return a row of zeros for a model that begins with a linear layer."""
    import torch

    if (blank := blank_inputs(model)) is not None:
        return blank[0] if len(blank) == 1 else tuple(blank)
    first = next((m for m in model.modules() if list(m.parameters(recurse=False))), None)
    if isinstance(first, torch.nn.Linear) and len(argument_names(model)[0]) == 1:
        return torch.zeros(1, first.in_features, dtype=first.weight.dtype)
    raise DeployError(
        "what the model takes is not known", hint="--example x, a batch or one row of its input"
    )


def _device(model: Any) -> Any:
    import torch

    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _first_run(model: Any, names: list[str], inputs: list[Any], how: str) -> tuple[list[Any], Any]:
    """Return the inputs with their batch dimension, and the output for them."""
    specs = tuple(TensorSpec(name, "", ()) for name in names)
    failure: Exception | None = None
    try:
        result = call(model, inputs, specs, how)
        if not _is_single_row(model, specs, inputs, how, result):
            return inputs, result
    except DeployError:  # it ran; what it gives cannot be served
        raise
    except Exception as raised:  # noqa: BLE001 - the user's own model may raise anything
        failure = raised
    rows = [x.unsqueeze(0) for x in inputs]
    try:
        return rows, call(model, rows, specs, how)
    except Exception as raised:  # noqa: BLE001
        failure = failure or raised
        shapes = ", ".join(f"{n} {list(x.shape)}" for n, x in zip(names, inputs, strict=True))
        raise DeployError(
            f"the model cannot run on the example ({shapes}): {type(failure).__name__}: {failure}",
            hint="--example x, a batch of what the model takes",
        ) from failure


def _is_single_row(
    model: Any, specs: tuple[TensorSpec, ...], inputs: list[Any], how: str, result: Any
) -> bool:
    """Whether the example is one row without its batch dimension: Linear takes both."""
    if isinstance(result, Iterator):
        return False
    _, outputs = named_outputs(result)
    if any(x.dim() != 1 for x in inputs) or any(y.dim() > 1 for y in outputs.values()):
        return False
    try:
        batched = call(model, [x.unsqueeze(0) for x in inputs], specs, how)
        _, wide = named_outputs(batched)
    except Exception:  # noqa: BLE001 - then the example was a batch of scalars
        return False
    return all(
        wide[n].shape[:1] == (1,) and wide[n].dim() == y.dim() + 1 for n, y in outputs.items()
    )


def _spec(name: str, tensor: Any, what: str) -> TensorSpec:
    shape = tuple(tensor.shape)
    return TensorSpec(name, datatype_of(tensor, what), (-1, *shape[1:]) if shape else ())


def _again(model: Any, specs: tuple[TensorSpec, ...], inputs: list[Any], how: str) -> list[Any]:
    return list(named_outputs(call(model, inputs, specs, how))[1].values())


def _same(left: list[Any], right: list[Any]) -> bool:
    import torch

    return len(left) == len(right) and all(
        a.shape == b.shape
        and torch.allclose(a.double(), b.double(), rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
        for a, b in zip(left, right, strict=True)
    )


def _rows_are_independent(
    model: Any, specs: tuple[TensorSpec, ...], inputs: list[Any], how: str
) -> bool:
    """Whether two rows in one batch are answered as each alone, with one output row per input row."""
    import torch

    if any(x.dim() == 0 or len(x) == 0 or len(x) != len(inputs[0]) for x in inputs):
        return False
    first = [x[:1] for x in inputs]
    second = [x[1:2] if len(x) > 1 else _other_row(x[:1]) for x in inputs]
    try:
        alone = [_again(model, specs, rows, how) for rows in (first, second)]
        both = _again(model, specs, [torch.cat(p) for p in zip(first, second, strict=True)], how)
    except Exception:  # noqa: BLE001 - a model of one row only, of two rows only
        return False
    if any(y.dim() == 0 or y.shape[0] != 2 for y in both):  # noqa: PLR2004 - two rows went in
        return False
    return _same(alone[0], [y[:1] for y in both]) and _same(alone[1], [y[1:] for y in both])


def _with_open_lengths(
    model: Any, specs: Specs, inputs: list[Any], how: str, outputs: Specs
) -> tuple[Specs, Specs]:
    """Return the signatures with the length of token rows left open, where the model takes others.

    Tokens are rows of integers (B, T); what else is (B, T), a mask say, changes its length with them.
    """
    import torch

    tokens = [x for x in inputs if x.dim() == ROWS_OF_TOKENS and not x.dtype.is_floating_point]
    length = tokens[0].shape[1] if tokens else 0
    if length <= 1 or any(x.shape[1] != length for x in tokens):
        return specs, outputs
    moves = [x.dim() == ROWS_OF_TOKENS and x.shape[1] == length for x in inputs]
    try:
        shorter, longer = (
            _again(model, specs, [change(x) if m else x for x, m in zip(inputs, moves, strict=True)], how)
            for change in (lambda x: x[:, :-1], lambda x: torch.cat([x, x[:, :1]], 1))
        )  # fmt: skip
    except Exception:  # noqa: BLE001 - it takes this length alone
        return specs, outputs
    if not len(shorter) == len(longer) == len(outputs):
        return specs, outputs
    sizes = [zip(a.shape, b.shape, strict=True) if a.dim() == b.dim() else None
             for a, b in zip(shorter, longer, strict=True)]  # fmt: skip
    opened = [
        spec if pairs is None else replace(spec, shape=_opened(spec.shape, pairs))
        for spec, pairs in zip(outputs, sizes, strict=True)
    ]
    taken = [replace(s, shape=(-1, -1)) if m else s for s, m in zip(specs, moves, strict=True)]
    return tuple(taken), tuple(opened)


def _opened(shape: tuple[int, ...], sizes: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """Return `shape` with -1 where the two sizes of a dimension differ."""
    return tuple(n if a == b else -1 for n, (a, b) in zip(shape, sizes, strict=True))


def _other_row(row: Any) -> Any:
    """Return a row unlike `row` (1, ...) of values the model has shown it can take."""
    import torch

    if row.dtype.is_floating_point:
        return row * 0.5 + torch.linspace(0.1, 0.9, row.numel()).reshape(row.shape).to(row)
    return row.flip(tuple(range(1, row.dim()))) if row.dim() > 1 else row
