"""Attributions are drawn by the shape of the input, and words fill their lines without overlapping."""

from __future__ import annotations

import numpy as np
import pytest

from nbaas.deploy.explanations import Attributions
from nbaas.errors import UsageError
from nbaas.magics.explain import Explanation, sizes, words_of
from nbaas.widgets.attributions import LETTERS, Row, as_picture, attribution_png, kind_of, wrap


def size_of(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


@pytest.mark.parametrize(
    ("shape", "integers", "kind"),
    [((64,), False, "table"), ((8, 8), False, "image"), ((3, 8, 8), False, "image"),
     ((8, 8, 1), False, "image"), ((8, 1), False, "image"),
     ((12,), True, "tokens"), ((), False, "table")],
)  # fmt: skip
def test_the_shape_of_a_row_says_how_it_is_drawn(shape, integers, kind):
    assert kind_of(shape, integers=integers) == kind
    given = np.ones(shape, "i8" if integers else "f4")
    rows = [Row("target 1, $core", np.random.default_rng(0).normal(size=shape), given)] * 4
    width, height = size_of(attribution_png("m", rows, ()))
    assert (width, 100 < height < 2500) == (1440, True)


def test_words_wrap_and_stay_beside_each_other():
    words = ["a", "quite", "long"] * 40 + ["x" * 500]
    places = wrap(words)
    for (line, at), word, (following, next_at) in zip(places, words, places[1:], strict=False):
        assert at + len(word) + 2 <= (next_at if following == line else LETTERS)


def test_a_picture_is_grey_or_coloured_within_bounds():
    assert as_picture(np.arange(12.0).reshape(3, 2, 2)).shape == (2, 2, 3)
    grey = as_picture(np.full((1, 2, 2), 7.0))
    assert (grey.shape, grey.min() >= 0, grey.max() <= 1) == ((2, 2), True, True)


def test_an_explanation_tells_its_largest_parts_in_text_and_draws_itself():
    parts = np.array([[0.5, -2.0, 0.1]])
    found = Attributions(
        "m", 3, "occlusion", {"x": parts}, {"x": np.ones((1, 3))},
        np.array([4]), np.array([2.5]), np.array([0.5]),
    )  # fmt: skip
    made = Explanation(found, names=("age", "<b>height</b>", "shoe"))
    assert "row 0: target 4, score 2.5 from 0.5: <b>height</b> -2, age +0.5" in repr(made)
    data, _ = made._repr_mimebundle_()
    assert set(data) == {"image/png", "text/plain"}  # no HTML is made of names
    assert made.parts is parts


def test_ids_become_words_by_list_dict_or_function():
    assert words_of([0, 2], ["a", "b", "c"]) == ("a", "c")
    assert words_of([0, 9], {0: "a"}) == ("a", "9")
    assert words_of([3], lambda i: f"w{i}") == ("w3",)


@pytest.mark.parametrize("text", ["8by8", "8x", "0x8", "-1"])
def test_a_size_that_is_none_is_named(text):
    with pytest.raises(UsageError, match="--image " + text):
        sizes("--image", text)
