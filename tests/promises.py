"""The promises of reliability as the tests keep them: rounds, seeds, and one table at the end.

A test that keeps a promise bears its number: test_p3_...; several: test_p3_and_p5_...  `pytest -m faults`
runs those of jobs, metrics and logs (1 to 30).  `NBAAS_FAULT_ROUNDS=full` runs as many rounds as the
promises name; otherwise a fifth of them.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

FULL = os.environ.get("NBAAS_FAULT_ROUNDS") == "full"
NAMED = re.compile(r"test_(p\d+(?:_(?:and_)?p\d+)*)_")
MARKER = "faults"
JOBS = range(1, 31)  # promises of jobs, metrics, logs; above: endpoints and security


@dataclass
class Tally:
    """What the rounds of a test found; seconds until the right state was seen."""

    promises: tuple[int, ...]
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


TABLE: dict[str, Tally] = {}  # test -> what it found


def promises_of(name: str) -> tuple[int, ...]:
    """Return the numbers of the promises that a test of this name keeps."""
    match = NAMED.match(name)
    return tuple(int(number) for number in re.findall(r"p(\d+)", match[1])) if match else ()


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """The lines of this test's promises, which are in its name: test_p3_..."""
    return TABLE.setdefault(request.node.nodeid, Tally(promises_of(request.node.name)))


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


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count a test without a tally as one round, and a failed one as wrong."""
    promises = promises_of(report.nodeid.rpartition("::")[2])
    if not promises or report.skipped:
        return
    if report.when == "call" or report.failed:
        line = TABLE.setdefault(report.nodeid, Tally(promises))
        line.rounds = max(line.rounds, 1)
        if report.failed and line.clean():
            line.wrong += 1


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if not TABLE or MARKER not in config.option.markexpr:
        return
    terminalreporter.section("promises")
    terminalreporter.line("promise  rounds  lost  orphans  wrong states  slowest detection")
    for number in sorted({number for line in TABLE.values() for number in line.promises}):
        lines = [line for line in TABLE.values() if number in line.promises]
        total = {name: sum(getattr(line, name) for line in lines)
                 for name in ("rounds", "lost", "orphans", "wrong")}  # fmt: skip
        slowest = max(line.slowest for line in lines)
        terminalreporter.line(
            f"P{number:<6}  {total['rounds']:>6}  {total['lost']:>4}  {total['orphans']:>7}"
            f"  {total['wrong']:>12}  {slowest:>15.2f} s"
        )
    missing = set(JOBS) - set(range(17, 20)) - {n for line in TABLE.values() for n in line.promises}
    if missing:
        listed = ", ".join(f"P{number}" for number in sorted(missing))
        terminalreporter.line(f"not run: {listed}")
