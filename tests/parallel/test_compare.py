"""The judge itself: what counts as the same number."""

from __future__ import annotations

import numpy as np
import pytest

from tests.parallel.compare import differences, same_line


@pytest.mark.parametrize(
    ("plain", "other"),
    [
        ("loss 0.123456", "loss 0.123457"),  # one in the last digit
        ("loss 1.2345678", "loss 1.2345699"),  # 1e-5 relative
        ("1e-3 2.5e-04", "1e-3 2.5e-04"),
        ("[ 0.1,  -0.2]", "[ 0.1, -0.2]"),  # spaces follow the width of numbers
        ("nan", "nan"),
    ],
)
def test_numbers_within_1e_5_are_the_same(plain, other):
    assert same_line(plain, other, 1e-5)


@pytest.mark.parametrize(
    ("plain", "other"),
    [
        ("loss 0.123456", "loss 0.123476"),
        ("3 of 10", "4 of 10"),  # whole numbers are exact
        ("loss 1.0", "lost 1.0"),
        ("1.0 2.0", "1.0"),
        ("1.0", "nan"),
    ],
)
def test_other_numbers_and_other_words_differ(plain, other):
    assert not same_line(plain, other, 1e-5)


def test_a_missing_line_a_missing_name_and_another_shape_are_told():
    plain = {"text": "a\nb\n", "values": {"x": np.zeros(3), "y": 1}}
    other = {"text": "a\n", "values": {"x": np.zeros((3, 1))}}
    told = "\n".join(differences(plain, other, 1e-5))
    assert "2 lines became 1" in told
    assert "float64(3,) became float64(3, 1)" in told
    assert "y is missing" in told


def test_an_array_is_measured_against_its_largest_element():
    plain = {"text": "", "values": {"w": np.array([1.0, 1e-9])}}
    near = {"text": "", "values": {"w": np.array([1.0, 2e-7])}}
    far = {"text": "", "values": {"w": np.array([1.0, 1e-4])}}
    assert differences(plain, near, 1e-5) == []
    assert differences(plain, far, 1e-5) == ["w: relative error 1.0e-04"]
