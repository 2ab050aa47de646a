"""The harness: differing numbers are found, a hang ends with the stacks of all ranks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parallel import harness as harnesses
from tests.parallel.sources import Case

RANK = """from nbaas.parallel.world import active
rank = getattr(active(), "rank", None)"""


def case_of(source: str, tmp_path: Path) -> Case:
    path = tmp_path / "cell.py"
    return Case(name="cell", group="made", path=path, phases={"train": source}, pattern="")


@pytest.mark.ranks
def test_numbers_that_depend_on_the_rank_are_called_different(harness, tmp_path):
    cell = f"{RANK}\nx = 1.5 if rank is not None else 1.0"
    verdict = harness.verdict(case_of(cell, tmp_path), 2)
    assert verdict.word == "different"
    assert "x: 1.0 became 1.5" in verdict.why


@pytest.mark.ranks
def test_an_error_is_told_with_the_cells_own_line(harness, tmp_path):
    cell = f"{RANK}\nif rank == 1:\n    1 / 0"
    verdict = harness.verdict(case_of(cell, tmp_path), 2)
    assert verdict.word == "failed"
    assert 'File "cell.py:train", line 4' in verdict.why
    assert "rank 1: ZeroDivisionError" in verdict.why


@pytest.mark.ranks
def test_a_hang_ends_with_the_stacks_of_all_ranks(harness, tmp_path, monkeypatch):
    monkeypatch.setattr(harnesses, "IDLE", 3.0)
    cell = (
        f"{RANK}\nimport time\n"
        "def waits_for_ever():\n    time.sleep(10000)\n"
        "if rank is not None:\n    waits_for_ever()"
    )
    verdict = harness.verdict(case_of(cell, tmp_path), 2)
    assert verdict.word == "hung"
    assert verdict.why.count("waits_for_ever") == 2
