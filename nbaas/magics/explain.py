"""`%explain`: what moved an endpoint's answer, as arrays and as a figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbaas.config import load_settings
from nbaas.deploy.explain import METHODS
from nbaas.deploy.explanations import Attributions, ask_why
from nbaas.errors import UsageError
from nbaas.magics.flags import LineParser, whole_number
from nbaas.magics.shell import Shell
from nbaas.magics.words import evaluate, fill_in, split_line
from nbaas.widgets.figure import WIDTH

TOLD = 3  # parts of a row that its line of text names

Words = Mapping[int, str] | Sequence[str] | Callable[[int], str]


def explain_parser() -> LineParser:
    parser = LineParser(
        "%explain", "Show what in an input moved an endpoint's answer (Captum), at most 16 rows."
    )
    add = parser.add_argument
    add("name", nargs="?", help="the endpoint")
    add("input", nargs="?", help="a name or an expression of the notebook")
    add("--method", default="", choices=["", *METHODS], help=f"{METHODS[0]} where none is given")
    add("--target", type=whole_number, default=-1, metavar="C", help="column; the highest if none")
    add("--steps", type=whole_number, default=64, metavar="N", help="of the integral, at most 512")
    add("--window", default="", metavar="SIZES", help="what is blanked at a time: 2 or 3x8x8")
    add("--image", default="", metavar="HxW", help="draw rows of numbers as images: 8x8")
    add("--names", default="", metavar="LIST", help="names of the columns: a name or expression")
    add("--tokens", default="", metavar="WORDS", help="words of the ids: a list, dict or function")
    add("--of", default="", metavar="INPUT", help="the model's input to explain, where it has more")
    add("--version", type=whole_number, metavar="V", help="ask this version")
    return parser


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `%explain` returns: `parts` (B, ...) by input, `score` and `baseline` (B,), `target`."""

    found: Attributions = field(repr=False)
    image: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    words: tuple[tuple[str, ...], ...] = ()

    @property
    def parts(self) -> Any:
        """The attributions: an array, or a dict of them where the model has several inputs."""
        parts = self.found.parts
        return next(iter(parts.values())) if len(parts) == 1 else parts

    @property
    def target(self) -> Any:
        return self.found.target

    @property
    def score(self) -> Any:
        return self.found.score

    @property
    def baseline(self) -> Any:
        return self.found.baseline

    @property
    def method(self) -> str:
        return self.found.method

    def __repr__(self) -> str:
        head = f"{self.found.name} version {self.found.version}, {self.found.method}"
        return "\n".join([head, *(f"  {self._line(i)}" for i in range(len(self.score)))])

    def _line(self, row: int) -> str:
        told = ", ".join(
            f"{place} {value:+.3g}"
            for name in self.found.parts
            for place, value in self._largest(name, row)
        )
        return f"row {row}: {self._title(row)} from {self.baseline[row]:.3g}: {told}"

    def _title(self, row: int) -> str:
        target = int(self.target[row])
        what = f"target {target}, " if target >= 0 else ""
        return f"{what}score {self.score[row]:.3g}"

    def _largest(self, name: str, row: int) -> list[tuple[str, float]]:
        parts = self._drawn(self.found.parts[name][row])
        order = np.argsort(-np.abs(parts), axis=None, kind="stable")[:TOLD]
        first = name == next(iter(self.found.parts))
        return [(self._place(name, parts.shape, int(i), row, first=first), float(parts.flat[i]))
                for i in order]  # fmt: skip

    def _place(
        self, name: str, shape: tuple[int, ...], index: int, row: int, *, first: bool
    ) -> str:
        if first and self.words and row < len(self.words):
            return repr(self.words[row][index])
        if first and len(shape) == 1 and index < len(self.names):
            return self.names[index]
        return f"{name}[{','.join(str(i) for i in np.unravel_index(index, shape))}]"

    def _drawn(self, array: Any) -> Any:
        """Return one row in the shape it is drawn in."""
        if self.image and array.ndim == 1 and array.size == int(np.prod(self.image)):
            return array.reshape(self.image)
        return array

    def _repr_mimebundle_(
        self,
        include: Any = None,  # noqa: ARG002 - IPython's protocol
        exclude: Any = None,  # noqa: ARG002
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        from nbaas.widgets.attributions import Row, attribution_png

        name = next(iter(self.found.parts))
        rows = [
            Row(self._title(i), self._drawn(parts), self._drawn(given))
            for i, (parts, given) in enumerate(
                zip(self.found.parts[name], self.found.inputs[name], strict=True)
            )
        ]
        title = f"{self.found.name} version {self.found.version}: {self.found.method}"
        labels: Sequence[Sequence[str]] = self.words or ((self.names,) if self.names else ())
        image = attribution_png(title, rows, labels)
        return {"image/png": image, "text/plain": repr(self)}, {"image/png": {"width": WIDTH}}


def explain(shell: Shell, parser: LineParser, line: str) -> Explanation:
    """Return why an endpoint answers as it does: `%explain digits x[:3]`."""
    space = shell.namespace
    # Braces of an expression are its own; a $name is filled in as everywhere.
    words = [fill_in(word, space) if "$" in word else word for word in split_line(line)]
    found = parser.read_words(words)
    if not found.name or not found.input:
        raise UsageError("%explain needs an endpoint and an input", hint="%explain digits x[:3]")
    return explained(
        found.name,
        evaluate(found.input, space),
        version=found.version,
        method=found.method,
        target=found.target,
        steps=found.steps,
        window=sizes("--window", found.window),
        image=sizes("--image", found.image),
        names=evaluate(found.names, space) if found.names else (),
        tokens=evaluate(found.tokens, space) if found.tokens else None,
        of=found.of,
    )


def explained(  # noqa: PLR0913 - one keyword a flag of %explain
    name: str,
    inputs: Any,
    *,
    version: int | None = None,
    method: str = "",
    target: int = -1,
    steps: int = 64,
    window: Sequence[int] = (),
    image: Sequence[int] = (),
    names: Sequence[str] = (),
    tokens: Words | None = None,
    of: str = "",
) -> Explanation:
    """Return the explanation of an endpoint's answers to `inputs`; columns of a data frame are names."""
    if not len(names) and hasattr(inputs, "columns"):
        names = [str(column) for column in inputs.columns]
    found = ask_why(
        load_settings(), name, inputs, version=version, method=method, target=target, steps=steps,
        window=window, input_name=of,
    )  # fmt: skip
    given = next(iter(found.inputs.values()))
    inner = given.shape[1:]
    if image and (len(inner) != 1 or int(np.prod(image)) != inner[0]):
        raise UsageError(
            f"rows of {list(inner)} are no images of {'x'.join(map(str, image))}",
            hint="--image HxW, with H times W numbers in a row",
        )
    words = () if tokens is None else tuple(words_of(row, tokens) for row in given)
    return Explanation(found, tuple(image), tuple(map(str, names)), words)


def words_of(ids: Any, tokens: Words) -> tuple[str, ...]:
    """Return the words of token ids; an id that has none stays a number."""
    return tuple(_word(int(i), tokens) for i in np.ravel(ids))


def _word(index: int, tokens: Words) -> str:
    if callable(tokens):
        return str(tokens(index))
    try:
        return str(tokens[index])
    except (KeyError, IndexError):
        return str(index)


def sizes(flag: str, text: str) -> tuple[int, ...]:
    """Return '8x8' as (8, 8); raises UsageError where it is not made of whole numbers."""
    try:
        found = tuple(int(part) for part in text.lower().split("x")) if text else ()
    except ValueError as wrong:
        raise UsageError(f"{flag} {text} is not made of sizes", hint=f"{flag} 8x8") from wrong
    if any(size < 1 for size in found):
        raise UsageError(f"{flag} {text} has a size below 1", hint=f"{flag} 8x8")
    return found
