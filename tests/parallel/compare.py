"""What one run printed and left behind, against what another did.  Pure.

Rule: numbers agree to `rtol` relative, everything between them is equal.  A printed number may also
differ by one unit in its last printed digit, a tensor's elements are measured against its largest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

NUMBER = re.compile(
    r"(?<![\w.])[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf)(?![\w])"
)
FLOOR = 1e-8  # below this a float32 gradient that is zero on paper is only rounding noise
SHOWN = 5  # differences told per run


def differences(plain: dict[str, Any], other: dict[str, Any], rtol: float) -> list[str]:
    """Return a line for each way `other` differs from `plain`, the first few; none if the same.

    Both are {"text": printed output, "values": {path: number | str | array}}.
    """
    found = [*text_differences(plain["text"], other["text"], rtol)]
    found += value_differences(plain["values"], other["values"], rtol)
    return found[:SHOWN]


def text_differences(plain: str, other: str, rtol: float) -> Iterator[str]:
    lines, others = plain.splitlines(), other.splitlines()
    for number, (line, printed) in enumerate(zip(lines, others, strict=False), 1):
        if line != printed and not same_line(line, printed, rtol):
            yield f"line {number}: {line!r} became {printed!r}"
    if len(lines) != len(others):
        longer = max(lines, others, key=len)
        yield f"{len(lines)} lines became {len(others)}, e.g. {longer[-1]!r}"


def same_line(plain: str, other: str, rtol: float) -> bool:
    if [part.split() for part in NUMBER.split(plain)] != [
        part.split() for part in NUMBER.split(other)
    ]:
        return False
    pairs = zip(NUMBER.findall(plain), NUMBER.findall(other), strict=True)
    return all(same_printed(a, b, rtol) for a, b in pairs)


def same_printed(plain: str, other: str, rtol: float) -> bool:
    if plain == other:
        return True
    if not (is_float(plain) and is_float(other)):
        return False
    a, b = float(plain), float(other)
    return abs(a - b) <= rtol * abs(a) + 1.01 * max(last_digit(plain), last_digit(other))


def is_float(text: str) -> bool:
    return any(mark in text for mark in ".eE") and "n" not in text


def last_digit(text: str) -> float:
    """Return what one unit in the last digit of a printed number is worth: 0.01 for '1.25'."""
    mantissa, _, exponent = text.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 10.0 ** (int(exponent or 0) - decimals)


def value_differences(plain: dict[str, Any], other: dict[str, Any], rtol: float) -> Iterator[str]:
    for path in [*plain, *(path for path in other if path not in plain)]:
        if path not in other:
            yield f"{path} is missing"
        elif path not in plain:
            yield f"{path} is new"
        elif told := value_difference(plain[path], other[path], rtol):
            yield f"{path}: {told}"


def value_difference(plain: Any, other: Any, rtol: float) -> str:
    """Return how `other` differs, '' where it is the same."""
    if type(plain) is not type(other):
        return f"{type(plain).__name__} became {type(other).__name__}"
    if isinstance(plain, float):
        plain, other = np.asarray(plain), np.asarray(other)
    if isinstance(plain, str) and same_line(plain, other, rtol):
        return ""  # a number that was formatted: its last digit may be rounded the other way
    if not isinstance(plain, np.ndarray):
        return "" if plain == other else f"{plain!r} became {other!r}"
    return array_difference(plain, other, rtol)


def array_difference(plain: np.ndarray, other: np.ndarray, rtol: float) -> str:
    if (plain.shape, plain.dtype) != (other.shape, other.dtype):
        return f"{plain.dtype}{plain.shape} became {other.dtype}{other.shape}"
    if plain.dtype.kind not in "fc":
        count = int((plain != other).sum())
        return f"{count} of {plain.size} elements differ" if count else ""
    if not np.array_equal(np.isfinite(plain), np.isfinite(other)):
        return "finite in other places"
    finite = np.isfinite(plain)
    scale = float(np.abs(plain[finite]).max(initial=0.0))
    error = float(np.abs(plain[finite].astype(float) - other[finite]).max(initial=0.0))
    if error <= rtol * scale + FLOOR:
        return ""
    if plain.size == 1:
        return f"{plain.item()!r} became {other.item()!r}"
    return f"relative error {error / max(scale, FLOOR):.1e}"
