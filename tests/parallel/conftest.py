"""The harness, once per session: one fork server, plain runs kept."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parents[2])
if ROOT not in sys.path:  # pytest's importlib mode leaves the path alone
    sys.path.insert(0, ROOT)

from tests.parallel.harness import Harness  # noqa: E402 - after the path


@pytest.fixture(scope="session")
def harness():
    made = Harness()
    yield made
    made.close()
