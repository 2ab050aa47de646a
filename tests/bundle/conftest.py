"""Contents of a small cell, captured from a plain namespace."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbaas.bundle import Bundle, Cell, build_bundle, open_bundle
from nbaas.capture import capture_cell


@pytest.fixture
def captured() -> Callable[..., Any]:
    """Return a function: cell source and namespace in, contents out."""

    def capture(source: str, namespace: dict[str, Any] | None = None, number: int = 3) -> Any:
        space = {"__name__": "__main__"} if namespace is None else namespace
        name = f"/tmp/ipykernel_7/{number}.py"
        lines = [line + "\n" for line in source.split("\n")]
        linecache.cache[name] = (len(source), None, lines, name)
        history = [Cell(number, source, name)]
        return capture_cell(source, space, execution_count=number, file_name=name, history=history)

    return capture


@pytest.fixture
def opened(tmp_path: Path, captured: Callable[..., Any]) -> Callable[..., Bundle]:
    """Return a function: cell source and namespace in, verified bundle out."""

    def make(source: str, namespace: dict[str, Any] | None = None) -> Bundle:
        contents = captured(source, namespace)
        build_bundle(tmp_path / "bundle", contents, tmp_path / "blobs")
        return open_bundle(tmp_path / "bundle", tmp_path / "blobs")

    return make
