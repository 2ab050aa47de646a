"""A notebook in this process, and ranks in others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
sys.path.append(str(ROOT))

from tests.capture.notebook import Notebook, Ranks  # noqa: E402 - found by the line above


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    started = Ranks()
    yield started
    started.close()


@pytest.fixture
def notebook(tmp_path: Path, ranks: Ranks) -> Notebook:
    return Notebook(tmp_path, ranks)
