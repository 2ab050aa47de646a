from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from jupyter_process import Server, Starter, light_python, start_server, stop_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    process, server = start_server(tmp_path_factory.mktemp("server"))
    yield server
    stop_server(process)


@pytest.fixture(scope="session")
def read_only_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose authorizer lets its users read and no more."""
    option = "--ServerApp.authorizer_class=read_only_authorizer.ReadOnly"
    process, server = start_server(tmp_path_factory.mktemp("read-only"), option)
    yield server
    stop_server(process)


@pytest.fixture
def start_job(server: Server, tmp_path: Path) -> Iterator[Starter]:
    """Start a job that `server` sees; what is left of it is killed at the end."""
    starter = Starter(server.home, light_python(tmp_path))
    yield starter
    starter.clean()
