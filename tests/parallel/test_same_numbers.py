"""A cell on N ranks prints and leaves behind what it does on one device.

Each case on one number of ranks here, so that the set is quick; `tests/corpus/run.py --all` runs the
full matrix.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.parallel.harness import Harness, Verdict
from tests.parallel.sources import Case, all_scripts

CASES = Path(__file__).parent / "cases"
WORLDS = (2, 3, 4)  # one each, in turn: 3 divides no batch of a power of two, 4 leaves ranks empty
ENGINE = os.environ.get("NBAAS_TEST_ENGINE", "ddp")


def pairs() -> list[tuple[Case, int]]:
    quick = [case for case in all_scripts(CASES) if not case.slow]
    return [(case, WORLDS[at % len(WORLDS)]) for at, case in enumerate(quick)]


@pytest.mark.ranks
@pytest.mark.parametrize(("case", "world"), pairs(), ids=lambda v: getattr(v, "name", str(v)))
def test_a_cell_on_ranks_gives_the_numbers_of_one_device(harness: Harness, case: Case, world: int):
    if case.missing:
        pytest.skip(f"not installed: {', '.join(case.missing)}")
    assert word_and_why(harness.verdict(case, world)) == "same"


@pytest.mark.ranks
@pytest.mark.parametrize("name", ["shuffle", "iterated_in_function", "cnn_batchnorm", "gan"])
def test_one_rank_changes_nothing(harness: Harness, name: str):
    (case,) = [case for case in all_scripts(CASES) if case.name == name]
    assert word_and_why(harness.verdict(case, 1)) == "same"


def word_and_why(verdict: Verdict) -> str:
    return f"{verdict.word}: {verdict.why}".strip(": \n")
