"""What a job has used: from the last rows of its ranks, priced where prices are set."""

from __future__ import annotations

import pytest

from nbaas.jobs.cost import Prices, added_up
from nbaas.records import Slot

HOUR = 3600.0


def slots(count, gpus=False):
    return tuple(
        Slot(rank, rank, count, "here", threads=4, gpu=rank if gpus else None)
        for rank in range(count)
    )


def test_what_is_held_counts_and_energy_is_told_to_be_estimated():
    cost = added_up(slots(2), [{"cpu_seconds": HOUR}, {"cpu_seconds": HOUR}], HOUR / 2, Prices())
    assert (cost.gpu_hours, cost.core_hours, cost.busy_core_hours) == (0.0, 4.0, 2.0)
    assert cost.energy == pytest.approx(0.02)
    assert cost.line() == "4 core-hours, 20 Wh (estimated)"


def test_measured_energy_counts_and_only_the_rest_is_estimated():
    rows = [{"cpu_seconds": 360.0, "gpu_energy": 3.6e6}] * 2
    cost = added_up(slots(2, gpus=True), rows, HOUR, Prices())
    assert cost.estimated == ("processor",)
    assert cost.line() == "2 GPU-hours, 8 core-hours, 2 kWh (processor estimated)"
    both = [row | {"cpu_energy": 3.6e5} for row in rows]
    assert added_up(slots(2, gpus=True), both, HOUR, Prices()).line().endswith("2.2 kWh")


def test_a_rank_whose_counter_was_lost_makes_it_an_estimate():
    cost = added_up(slots(2), [{"cpu_energy": 5.0, "cpu_seconds": 1.0}, {}], HOUR, Prices())
    assert cost.estimated == ("processor",)


def test_money_is_told_where_a_price_is_set():
    prices = Prices(gpu_hour=2.5, core_hour=0.05, currency="EUR")
    cost = added_up(slots(2, gpus=True), [{}, {}], HOUR, prices)
    assert cost.money == pytest.approx(5.4)
    assert cost.line().endswith("5.40 EUR")
    assert added_up(slots(1), [{}], HOUR, Prices()).money is None
