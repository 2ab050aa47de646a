"""Counters of energy as the kernel writes them: followed when they go round, left out when unreadable."""

from __future__ import annotations

import pytest

from nbaas.worker.energy import ProcessorEnergy, packages


@pytest.fixture
def counter(tmp_path):
    """A powercap folder with one package, and a /proc/stat beside it."""
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "max_energy_range_uj").write_text("10000000\n")
    (package / "energy_uj").write_text("9000000\n")
    (tmp_path / "intel-rapl:0:0").mkdir()  # a part of the package: counted with it
    (tmp_path / "stat").write_text("cpu 1000 0 0 500 0 0 0 0 0 0\n")
    return tmp_path


def test_a_rank_gets_its_share_of_what_the_package_used(counter):
    energy = ProcessorEnergy(packages(counter), counter / "stat")
    (counter / "intel-rapl:0" / "energy_uj").write_text("9800000\n")
    (counter / "stat").write_text("cpu 1400 0 0 900 0 0 0 0 0 0\n")  # 4 busy seconds
    assert energy.joules(1.0) == pytest.approx(0.2)


def test_a_counter_that_went_round_is_followed(counter):
    energy = ProcessorEnergy(packages(counter), counter / "stat")
    (counter / "intel-rapl:0" / "energy_uj").write_text("1000000\n")
    (counter / "stat").write_text("cpu 1100 0 0 500 0 0 0 0 0 0\n")
    assert energy.joules(1.0) == pytest.approx(2.0)


def test_what_cannot_be_read_is_left_out(counter, tmp_path):
    (counter / "intel-rapl:0" / "energy_uj").unlink()
    assert packages(counter) == []
    assert ProcessorEnergy([]).joules(1.0) is None
