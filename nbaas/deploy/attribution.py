"""How much each part of an input moved a model's answer: integrated gradients and occlusion by Captum.

Shape letters: B rows, T tokens.  Rules: the model is in eval mode and stays as it was; the work is
bounded by rows, by passes of the model and by seconds, for other requests wait meanwhile.
Source: axiomatic attribution, Sundararajan et al. 2017; occlusion, Zeiler and Fergus 2014.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from nbaas.deploy.calling import call, named_outputs
from nbaas.deploy.explain import METHODS
from nbaas.deploy.manifest import Signature, TensorSpec
from nbaas.deploy.pipeline import Pipeline
from nbaas.errors import InputError

MAX_ROWS = 16
MAX_STEPS = 512
MAX_SECONDS = 20.0
MAX_WINDOWS = 1024  # occluded places of one row
PASS_ROWS = 64  # rows in one call of the model
TABLE = 2  # dimensions of (B, scores)
CHANNELS = 4  # at most, of an image that has them last


@dataclass(frozen=True, slots=True)
class Wish:
    """What to explain; `target` is the column of the output, -1 the highest of each row."""

    method: str = ""  # empty: the first of METHODS
    target: int = -1
    steps: int = 64  # of the integral
    window: tuple[int, ...] = ()  # sizes of the occluded part, without the rows
    input: str = ""  # empty: every input that has gradients
    output: str = ""  # empty: the first one of numbers with a fraction


@dataclass(slots=True)
class Attributed:
    """`parts` holds (B, ...) of the input's shape for each explained input by its name.

    `score` is the output that was explained and `baseline` the same for an input of zeros (or of
    padding tokens), both (B,): the parts add up to their difference, roughly.
    """

    method: str
    parts: dict[str, Any]
    target: Any  # (B,) integers, -1 where the output is one number
    score: Any
    baseline: Any


@dataclass(slots=True)
class Scores:
    """The model as a function from tensors, in the signature's order, to the scores (B, C) or (B,)."""

    model: Any
    signature: Signature
    output: str = ""
    deadline: float = math.inf

    def __call__(self, *inputs: Any) -> Any:
        if time.monotonic() > self.deadline:
            raise InputError(
                f"the explanation takes over {MAX_SECONDS:g} s", hint="fewer rows or steps"
            )
        result = call(self.model, list(inputs), self.signature.inputs, self.signature.call)
        outputs = named_outputs(result)[1]
        return self._checked(*self._picked(outputs))

    def _picked(self, outputs: dict[str, Any]) -> tuple[str, Any]:
        if self.output and self.output not in outputs:
            raise InputError(
                f"there is no output {self.output!r}", hint="there are: " + ", ".join(outputs)
            )
        wanted = [self.output] if self.output else outputs
        for name in wanted:
            if outputs[name].dtype.is_floating_point:
                return name, outputs[name]
        name = next(iter(wanted))
        raise InputError(
            f"output {name!r} is of {_dtype(outputs[name])}: there is no score to explain",
            hint="deploy a model that returns scores, or name another output",
        )

    def _checked(self, name: str, scores: Any) -> Any:
        if scores.dim() == TABLE and scores.shape[1] == 1:
            scores = scores[:, 0]
        if scores.dim() not in (1, TABLE):
            raise InputError(
                f"output {name!r} is {list(scores.shape)}: an explanation needs one score, or a row "
                "of scores, for each row",
                hint="--post can choose it at %deploy",
            )
        return scores


def attribute(model: Any, signature: Signature, inputs: list[Any], wish: Wish) -> Attributed:
    """Return what each part of `inputs` (B, ...) adds to the score that `wish` names.

    Raises: InputError: no such target or input, nothing differentiable, over a limit.
    """
    check_wish(wish, signature, len(inputs[0]))
    model = _scoring(model, signature, wish)
    scores = Scores(model, signature, wish.output, time.monotonic() + MAX_SECONDS)
    with torch.no_grad():
        found = scores(*inputs)
    target = _targets(found, wish.target)
    layer = _embedding_of(scores, inputs, wish)
    method = wish.method or METHODS[0]
    if method == METHODS[0]:
        _check_gradients(signature, layer, wish)
    work = Work(scores, signature, inputs, target, wish, layer)
    parts, blank = _BY_METHOD[method](work)
    with torch.no_grad():
        baseline = _at(scores(*blank), target)
    columns = torch.full((len(inputs[0]),), -1) if target is None else target
    return Attributed(method, parts, columns, _at(found, target), baseline)


def check_wish(wish: Wish, signature: Signature, rows: int) -> None:
    if wish.method and wish.method not in METHODS:
        raise InputError(f"{wish.method!r} is no method", hint="known: " + ", ".join(METHODS))
    if rows > MAX_ROWS:
        raise InputError(f"{rows} rows to explain, at most {MAX_ROWS}", hint="x[:4]")
    if not 1 <= wish.steps <= MAX_STEPS:
        raise InputError(f"{wish.steps} steps; 1 to {MAX_STEPS} are possible")
    if wish.input and signature.input_named(wish.input) is None:
        known = ", ".join(spec.name for spec in signature.inputs)
        raise InputError(f"there is no input {wish.input!r}", hint=f"there are: {known}")


@dataclass(slots=True)
class Work:
    scores: Scores
    signature: Signature
    inputs: list[Any]
    target: Any
    wish: Wish
    layer: Any = None  # the embedding that takes the tokens
    chosen: list[int] = field(default_factory=list)  # positions of the inputs to explain

    def split(self, wanted: Callable[[TensorSpec], bool]) -> Callable[..., Any]:
        """Choose inputs; return the scores as a function of these, then of the others."""
        specs = self.signature.inputs
        named = self.wish.input
        self.chosen = [i for i, s in enumerate(specs) if (s.name == named if named else wanted(s))]
        order = [*self.chosen, *(i for i in range(len(specs)) if i not in self.chosen)]

        def run(*given: Any) -> Any:
            return self.scores(*(x for _, x in sorted(zip(order, given, strict=True), key=_first)))

        return run

    @property
    def main(self) -> tuple[Any, ...]:
        return tuple(self.inputs[i] for i in self.chosen)

    @property
    def others(self) -> tuple[Any, ...]:
        return tuple(x for i, x in enumerate(self.inputs) if i not in self.chosen)

    def named(self, parts: tuple[Any, ...]) -> dict[str, Any]:
        names = [self.signature.inputs[i].name for i in self.chosen]
        return {n: p.detach().float() for n, p in zip(names, parts, strict=True)}

    def blank(self) -> list[Any]:
        """Return the inputs with nothing in those that are explained."""
        return [self._empty(x) if i in self.chosen else x for i, x in enumerate(self.inputs)]

    def _empty(self, x: Any) -> Any:
        padding = getattr(self.layer, "padding_idx", None)
        return torch.full_like(x, padding or 0) if not x.dtype.is_floating_point else x * 0


def _first(pair: tuple[int, Any]) -> int:
    return pair[0]


def _integrated(work: Work) -> tuple[dict[str, Any], list[Any]]:
    """Return the gradients from an empty input to the given one, summed, times their difference."""
    from captum.attr import IntegratedGradients, LayerIntegratedGradients

    options = {
        "target": work.target,
        "n_steps": work.wish.steps,
        "internal_batch_size": max(PASS_ROWS, len(work.inputs[0])),
    }
    run = work.split(_is_continuous if work.layer is None else _is_token)
    blank = work.blank()
    empty = tuple(blank[i] for i in work.chosen)
    options["additional_forward_args"] = work.others or None
    with torch.enable_grad():
        try:
            if work.layer is not None:
                found = LayerIntegratedGradients(run, work.layer).attribute(
                    work.main[0], baselines=empty[0], **options
                )
                found = found[0] if isinstance(found, tuple) else found
                return work.named((found.sum(-1),)), blank
            given = tuple(x.requires_grad_() for x in map(torch.clone, work.main))
            return work.named(
                IntegratedGradients(run).attribute(given, baselines=empty, **options)
            ), blank
        except (RuntimeError, AssertionError) as refused:
            raise _not_differentiable(work, refused) from refused


def _occluded(work: Work) -> tuple[dict[str, Any], list[Any]]:
    """Return by how much the score falls where a window of the input is blanked."""
    from captum.attr import Occlusion

    run = work.split(lambda spec: len(spec.shape) > 1 and spec.datatype != "BOOL")
    if not work.chosen:
        raise InputError("no input has parts that could be blanked")
    blank = work.blank()
    windows = [window_for(tuple(x.shape[1:]), work.wish.window) for x in work.main]
    with torch.no_grad():
        found = Occlusion(run).attribute(
            work.main,
            sliding_window_shapes=tuple(windows),
            strides=tuple(windows),
            baselines=tuple(blank[i] for i in work.chosen),
            target=work.target,
            additional_forward_args=work.others or None,
            perturbations_per_eval=max(1, PASS_ROWS // len(work.inputs[0])),
        )
    return work.named(found), blank


_BY_METHOD: dict[str, Callable[[Work], tuple[dict[str, Any], list[Any]]]] = {
    "integrated-gradients": _integrated,
    "occlusion": _occluded,
}


def window_for(inner: tuple[int, ...], asked: tuple[int, ...]) -> tuple[int, ...]:
    """Return the part of a row that is blanked at a time, as a size for each dimension.

    One number of a table, one token, an eighth of each side of an image with all its channels;
    larger where there would be over MAX_WINDOWS of them.
    """
    if asked and len(asked) not in (1, len(inner)):
        raise InputError(
            f"the window has {len(asked)} sizes, a row has {len(inner)} dimensions {list(inner)}"
        )
    if asked:
        sizes = asked if len(asked) == len(inner) else asked * len(inner)
    elif len(inner) <= 1:
        sizes = (1,) * len(inner)
    elif len(inner) == 3 and inner[-1] <= CHANNELS < inner[0]:  # noqa: PLR2004 - H, W, C
        sizes = (*(max(1, side // 8) for side in inner[:2]), inner[-1])
    else:
        channels = inner[: len(inner) - 2]
        sizes = (*channels, *(max(1, side // 8) for side in inner[-2:]))
    sizes = tuple(max(1, min(size, side)) for size, side in zip(sizes, inner, strict=True))
    while math.prod(-(-a // b) for a, b in zip(inner, sizes, strict=True)) > MAX_WINDOWS:
        sizes = tuple(min(2 * size, side) for size, side in zip(sizes, inner, strict=True))
    return sizes


# ---------------------------------------------------------------- what there is to explain


def _is_continuous(spec: TensorSpec) -> bool:
    return spec.datatype.startswith(("FP", "BF"))


def _is_token(spec: TensorSpec) -> bool:
    return spec.datatype in ("INT64", "INT32") and len(spec.shape) == TABLE


def _check_gradients(signature: Signature, layer: Any, wish: Wish) -> None:
    """Refuse inputs that can have no gradients: integers that no embedding looks up."""
    specs = [s for s in signature.inputs if not wish.input or s.name == wish.input]
    if layer is not None or any(map(_is_continuous, specs)):
        return
    raise InputError(
        f"input {specs[0].name!r} is {specs[0]} and goes through no embedding: it has no gradients",
        hint="--method occlusion",
    )


def _scoring(model: Any, signature: Signature, wish: Wish) -> Any:
    """Return the model without its last step where that step leaves no score, an argmax say."""
    if not isinstance(model, Pipeline) or model.post is None or wish.output:
        return model
    if any(map(_is_continuous, signature.outputs)):
        return model
    return Pipeline(model.model, model.pre, None).eval()


def _targets(scores: Any, wanted: int) -> Any:
    """Return the column to explain for each row, None where there is one score a row."""
    if scores.dim() == 1:
        if wanted > 0:
            raise InputError(f"there is no target {wanted}: the model gives one score for each row")
        return None
    if wanted >= scores.shape[1]:
        raise InputError(f"there is no target {wanted}", hint=f"0 to {scores.shape[1] - 1}")
    if wanted >= 0:
        return torch.full((len(scores),), wanted)
    return scores.argmax(1)


def _at(scores: Any, target: Any) -> Any:
    if target is None:
        return scores.float()
    return scores.gather(1, target.to(scores.device)[:, None])[:, 0].float()


def _embedding_of(scores: Scores, inputs: list[Any], wish: Wish) -> Any:
    """Return the embedding that looks up the token ids, None where no input is made of tokens."""
    specs = scores.signature.inputs
    tokens = [
        x for s, x in zip(specs, inputs, strict=True)
        if _is_token(s) and (not wish.input or s.name == wish.input)
    ]  # fmt: skip
    continuous = any(_is_continuous(s) for s in specs if not wish.input or s.name == wish.input)
    if not tokens or continuous or wish.method == METHODS[1]:
        return None
    found: list[Any] = []

    def note(layer: Any, given: tuple[Any, ...], _output: Any) -> None:
        same = given and given[0].shape == tokens[0].shape and bool((given[0] == tokens[0]).all())
        if same and layer not in found:
            found.append(layer)

    layers = [m for m in scores.model.modules() if isinstance(m, torch.nn.Embedding)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        with torch.no_grad():
            scores(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _not_differentiable(work: Work, refused: Exception) -> InputError:
    name = work.signature.inputs[work.chosen[0]].name if work.chosen else "the input"
    reason = str(refused).strip().partition("\n")[0]
    return InputError(
        f"input {name!r} is not differentiable in this model: {reason}", hint="--method occlusion"
    )


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")
