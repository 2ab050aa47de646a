"""The suite itself: no promise without a test, no dependency below the floor that a promise needs."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

TESTS = Path(__file__).resolve().parents[1]
PROMISES = [f"p{number}" for number in range(60, 72)]
# What each floor keeps out; the advisories are named in DECISIONS.md.
FLOORS = {
    "jupyter-server": "2.18",  # origin and root checks by prefix, cookies that outlived a login
    "torch": "2.10",  # weights_only that could be got round, and then corrupted memory
    "safetensors": "0.4.3",
    "msgspec": "0.18",
}


@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise_has_a_test_of_its_name(promise):
    pattern = re.compile(rf"^(?:async )?def test_{promise}_\w+\(", re.MULTILINE)
    found = [path for path in TESTS.rglob("test_*.py") if pattern.search(path.read_text())]
    assert found, f"no test_{promise}_..."


def requirements() -> dict[str, Requirement]:
    listed = importlib.metadata.requires("nbaas") or []
    return {one.name: one for one in map(Requirement, listed) if one.marker is None}


@pytest.mark.parametrize(("name", "floor"), FLOORS.items())
def test_p70_installing_cannot_bring_a_release_below_the_floor(name, floor):
    specifier = requirements()[name].specifier
    below = Version(floor).release
    for older in ("0.1", f"{below[0]}.{below[1] - 1}", f"{floor}.dev0"):
        assert not specifier.contains(older, prereleases=True), f"{name}{specifier} admits {older}"


@pytest.mark.parametrize("name", sorted(requirements()))
def test_p70_what_is_installed_is_above_its_floor(name):
    installed = importlib.metadata.version(name)
    assert requirements()[name].specifier.contains(installed, prereleases=True)


def test_p70_every_runtime_dependency_has_a_floor():
    assert [one.name for one in requirements().values() if not one.specifier] == []
