"""One kernel for all tests of a file: starting it and importing torch is most of the time."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cells import SETUP
from kernel_notebook import Notebook


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    with Notebook(tmp_path_factory.mktemp("home")) as started:
        assert started.run("%load_ext nbaas").error == ""
        yield started


@pytest.fixture
def problem(notebook: Notebook) -> Notebook:
    """The notebook with a fresh model, optimizer and loaders."""
    cell = notebook.run(SETUP)
    assert not cell.error, cell.error
    return notebook


@pytest.fixture(scope="session")
def engine() -> str:
    """Horovod where it is built, which CI does; torch's own otherwise."""
    return "horovod" if importlib.util.find_spec("horovod") else "ddp"
