"""Fixtures that every area may use; light: no torch, no server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

# Two ranks and a test process share the cores; read by torch when it is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from nbaas.config import Settings

sys.path.insert(0, str(Path(__file__).parent))

from promises import (  # noqa: F401 - fixtures and hooks for all tests
    JOBS,
    chance,
    promises_of,
    pytest_runtest_logreport,
    pytest_terminal_summary,
    rounds,
    tally,
)

ROOT = Path(__file__).parent.parent
SERVING = re.compile(r"test_p4\d_")  # the promises of endpoints, in the fault suite too
SECURITY = re.compile(r"test_p(?:6\d|7[01])_")  # the promises of the security suite


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the security and the fault suite by their names, wherever they stand."""
    for item in items:
        if set(promises_of(item.name)) & set(JOBS) or SERVING.match(item.name):
            item.add_marker(pytest.mark.faults)
        if SECURITY.match(item.name) or "/tests/security/" in item.path.as_posix():
            item.add_marker(pytest.mark.security)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose home and cache are this test's own."""
    return Settings(home=tmp_path / "home", cache=tmp_path / "cache")


@pytest.fixture
def eventually() -> Callable[..., object]:
    """Return a function that polls `condition` until it is true, and fails at the deadline."""

    def poll(condition: Callable[[], object], *, timeout: float = 30.0) -> object:
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < deadline, f"not within {timeout:g} s: {condition}"
            time.sleep(0.02)
        return value

    return poll


@pytest.fixture
def cli(settings: Settings) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the nbaas command in a process of its own."""

    def run(*arguments: str, timeout: float = 60.0, **environ: str):
        return subprocess.run(
            [sys.executable, "-m", "nbaas.cli", *arguments],
            env=os.environ
            | {"NBAAS_HOME": str(settings.home), "NBAAS_CACHE": str(settings.cache)}
            | environ,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
