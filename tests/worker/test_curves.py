from __future__ import annotations

import random
from itertools import pairwise

import pytest

from nbaas.worker.curves import BUCKETS, Curve, Curves


def curve_of(values):
    curve = Curve()
    for step, value in enumerate(values):
        curve.append(step, value)
    return curve


@pytest.mark.parametrize("seed", range(20))
def test_p28_a_single_peak_survives(seed):
    random.seed(seed)
    rows = random.choice([100, 5000, 9000, 40_000])
    peak = random.randrange(rows)
    curve = curve_of(1e6 if step == peak else random.random() for step in range(rows))
    points = curve.points(500)
    assert (peak, 1e6) in points
    assert len(points) <= 520


def test_memory_is_bounded_however_many_rows_come():
    curve = curve_of(float(n % 7) for n in range(200_000))
    assert len(curve.buckets) <= 2 * BUCKETS
    steps = [step for step, _ in curve.points(1000)]
    assert steps == sorted(steps)
    assert steps[-1] == 199_999


def test_buckets_hold_about_the_same_number_of_rows():
    curve = curve_of(float(n) for n in range(100_000))
    starts = [bucket[0][0] for bucket in curve.buckets]
    widths = {b - a for a, b in pairwise(starts)}
    assert widths <= {curve.width, curve.width // 2}


def test_p29_what_is_no_number_is_a_gap():
    curves = Curves()
    for step, value in enumerate([1.0, "nan", 0.5, "inf", True]):
        curves.add({"time": 1.0, "step": step, "epoch": 1, "values": {"loss": value}})
    points = curves.by_name["loss"].points(100)
    assert repr(points) == "[(0, 1.0), (1, nan), (2, 0.5), (3, inf), (4, nan)]"


def test_a_restart_takes_the_curve_back_to_its_checkpoint():
    curve = curve_of([9.0, 8.0, 7.0, 6.0])
    curve.append(2, 7.5)
    curve.append(3, 6.5)
    assert curve.points(100) == [(0, 9.0), (1, 8.0), (2, 7.5), (3, 6.5)]


@pytest.mark.parametrize(
    "row", [{}, {"step": "1", "time": 1}, {"step": 1, "time": None}, {"step": 1, "time": 1}]
)
def test_a_row_that_does_not_fit_is_left_out(row):
    curves = Curves()
    curves.add(row)
    assert curves.by_name == {}


def test_the_headline_is_the_loss():
    curves = Curves()
    values = {"lr": 0.1, "val_loss": 2.0, "loss": 1.0}
    curves.add({"time": 1.0, "step": 1, "epoch": 1, "values": values})
    curves.add({"time": 1.0, "step": 1, "epoch": 1, "values": {"rss": 1.0}, "kind": "sys"})
    assert curves.headline == "loss"
    assert list(curves.by_name) == ["lr", "val_loss", "loss", "sys/rss"]


def test_the_rate_is_that_of_the_last_seconds():
    curves = Curves()
    for second in range(40):
        step = second * (10 if second < 20 else 100)
        curves.add({"time": float(second), "step": step, "epoch": 1, "values": {}})
    assert curves.steps_per_second == pytest.approx(100)
