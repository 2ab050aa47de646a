"""What the fault tests share: light ranks, seeds that are printed, and the table at the end.

`NBAAS_FAULT_ROUNDS=full` runs as many rounds as the promises name; otherwise a fifth of them.
"""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

JOBS = Path(__file__).parent.parent / "jobs" / "conftest.py"
_spec = importlib.util.spec_from_file_location("nbaas_tests_jobs", JOBS)
assert _spec is not None
assert _spec.loader is not None
_jobs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_jobs)
settings, light_python, start = _jobs.settings, _jobs.light_python, _jobs.start

FULL = os.environ.get("NBAAS_FAULT_ROUNDS") == "full"


@dataclass
class Tally:
    """One line of the table; seconds until the right state was seen."""

    promise: str
    rounds: int = 0
    lost: int = 0
    orphans: int = 0
    wrong: int = 0
    slowest: float = 0.0

    def add(self, *, lost: int = 0, orphans: int = 0, wrong: bool = False, took: float = 0.0):
        self.rounds += 1
        self.lost += lost
        self.orphans += orphans
        self.wrong += wrong
        self.slowest = max(self.slowest, took)

    def clean(self) -> bool:
        return not (self.lost or self.orphans or self.wrong)


TABLE: list[Tally] = []


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """The line of this test's promise, which is in its name: test_p3_..."""
    line = Tally(request.node.name.split("_")[1].upper())
    TABLE.append(line)
    return line


@pytest.fixture
def rounds() -> Callable[[int], int]:
    """Return the number of rounds to run where a promise names `full`."""
    return lambda full: full if FULL else max(2, full // 5)


@pytest.fixture
def chance() -> random.Random:
    """A generator whose seed is printed when the test fails; NBAAS_FAULT_SEED repeats a run."""
    seed = int(os.environ.get("NBAAS_FAULT_SEED") or random.randrange(1 << 30))
    print(f"NBAAS_FAULT_SEED={seed}")
    return random.Random(seed)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not TABLE:
        return
    terminalreporter.section("promises")
    terminalreporter.line("promise  rounds  lost  orphans  wrong states  slowest detection")
    for line in TABLE:
        terminalreporter.line(
            f"{line.promise:<7}  {line.rounds:>6}  {line.lost:>4}  {line.orphans:>7}"
            f"  {line.wrong:>12}  {line.slowest:>15.2f} s"
        )
