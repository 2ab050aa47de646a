"""Random programs over batches give on N ranks what they give on one device.

`NBAAS_FUZZ_SEED` and `NBAAS_FUZZ_COUNT` choose others; a failure names the seed and the expression.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.parallel.harness import Harness
from tests.parallel.sources import read_script

PROGRAMS = Path(__file__).parent / "fuzz" / "programs.py"
SEED = int(os.environ.get("NBAAS_FUZZ_SEED", "0"))
COUNT = int(os.environ.get("NBAAS_FUZZ_COUNT", "300"))


@pytest.mark.ranks
@pytest.mark.parametrize("world", [2, 3, 4])
def test_random_programs_give_the_numbers_of_one_device(harness: Harness, world: int):
    first = SEED + world * COUNT
    case = replace(read_script(PROGRAMS), env={"FUZZ_SEED": str(first), "FUZZ_COUNT": str(COUNT)})
    print(f"seeds {first} to {first + COUNT - 1}")
    verdict = harness.verdict(case, world)
    assert f"{verdict.word}: {verdict.why}".strip(": \n") == "same"
