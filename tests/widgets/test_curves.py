"""A front end gets as many points as it can draw, and no peak is lost on the way."""

from __future__ import annotations

import math

import numpy as np

from nbaas.widgets.curves import Curve, Curves, decimate, group_of


def test_few_points_are_all_drawn():
    assert decimate(np.arange(10.0), 100).tolist() == list(range(10))


def test_a_peak_at_any_step_survives_decimation():
    chance = np.random.default_rng(3)
    for _ in range(100):
        values = chance.normal(size=20_000)
        at = int(chance.integers(len(values)))
        values[at] = 50.0
        kept = decimate(values, 500)
        assert at in kept
        assert len(kept) <= 500
        assert {0, len(values) - 1} <= set(kept.tolist())


def test_a_nan_and_an_infinity_survive_decimation():
    values = np.zeros(10_000)
    values[[777, 9_001]] = np.nan, np.inf
    assert {777, 9_001} <= set(decimate(values, 100).tolist())


def test_a_curve_that_is_nan_throughout_is_drawn_in_part():
    assert len(decimate(np.full(100_000, np.nan), 100)) <= 300


def test_a_million_points_become_what_a_screen_shows():
    values = np.sin(np.arange(1_000_000) / 50_000)
    assert len(decimate(values, 2_000)) <= 2_000


def test_a_range_of_steps_keeps_a_neighbour_on_each_side():
    curve = Curve("loss")
    for step in range(100):
        curve.append(step, step / 10)
    steps, values = curve.points(between=(10, 20))
    assert (steps[0], steps[-1]) == (9.0, 21.0)
    assert values.dtype == np.float32


def test_the_best_of_a_loss_is_its_lowest_and_of_a_score_its_highest():
    curves = Curves()
    for step, (loss, accuracy) in enumerate([(2.0, 0.5), (1.0, 0.9), (math.nan, 0.7)]):
        curves.append(step, {"loss": loss, "val_acc": accuracy})
    assert curves.by_name["loss"].best == 1.0
    assert curves.by_name["val_acc"].best == 0.9


def test_curves_of_one_kind_share_a_chart_and_losses_come_first():
    curves = Curves()
    curves.append(
        0, {"lr": 0.1, "accuracy": 0.5, "train_loss": 1.0, "val_loss": 1.1, "reward": 3.0}
    )
    assert list(curves.groups()) == ["loss", "score", "learning rate", "reward"]
    assert group_of("val_loss") == group_of("train_loss")


def test_a_curve_that_goes_back_forgets_what_came_after():
    curve = Curve("loss")
    for step, value in [(1, 3.0), (2, 2.0), (3, 1.0), (2, 2.5)]:
        curve.append(step, value)
    assert (list(curve.steps), list(curve.values)) == ([1, 2], [3.0, 2.5])
    assert (curve.best, curve.rewound) == (2.5, 1)


def test_curves_of_compared_jobs_share_a_chart_whatever_the_jobs_are_called():
    curves = Curves()
    for index, job in enumerate(("lossy", "other")):
        name = f"grad_norm ({job})"
        curves.by_name[name] = Curve(name, of="grad_norm", job=index)
    assert [list(curves.groups()), len(curves.groups()["grad_norm"])] == [["grad_norm"], 2]
