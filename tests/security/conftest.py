"""The security suite: promises P60 to P71 by name; `make test-security` runs them wherever they lie.

The marker is set by name (tests/conftest.py), so a test of such a promise belongs to the suite in
whichever folder it stands.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "server"), str(TESTS / "magics")]

from jupyter_process import (  # noqa: E402 - found on the path of the line above
    Server,
    Starter,
    light_python,
    start_server,
    stop_server,
)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    process, server = start_server(tmp_path_factory.mktemp("server"))
    yield server
    stop_server(process)


@pytest.fixture
def start_job(server: Server, tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(server.home, light_python(tmp_path))
    yield starter
    starter.clean()
