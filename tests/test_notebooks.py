"""Every tutorial runs from the top in a fresh kernel, on two ranks, with nothing left behind."""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from nbaas.config import Settings
from nbaas.deploy.hosting import stop_host

pytestmark = pytest.mark.ranks

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted(path for path in (ROOT / "notebooks").glob("0*.ipynb"))
NEEDS = {"04_keras": ("keras", "captum"), "06_explain_and_account": ("captum",)}


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_from_top_to_bottom(path, tmp_path):
    for package in NEEDS.get(path.stem, ()):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "committed without outputs"
    (tmp_path / "work").mkdir()
    home = tmp_path / "home"
    environ = os.environ | {
        "NBAAS_HOME": str(home),
        "NBAAS_ENGINE": "ddp",
        "NBAAS_ZYGOTE_IDLE": "20",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    environ.pop("KERAS_BACKEND", None)  # the notebook says it
    client = NotebookClient(
        notebook, timeout=240, kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path / "work")}},
    )  # fmt: skip
    began = time.monotonic()
    try:
        client.execute(env=environ)
    finally:
        stop_host(Settings(home=home, cache=home))
        keep_executed(notebook, path, time.monotonic() - began)
    errors = [o for c in notebook.cells for o in c.get("outputs", []) if o.output_type == "error"]
    assert not errors


def keep_executed(notebook: nbformat.NotebookNode, path: Path, seconds: float) -> None:
    """Leave the notebook as it ran where NBAAS_EXECUTED names a folder: to look at."""
    if folder := os.environ.get("NBAAS_EXECUTED"):
        print(f"{path.stem}: {seconds:.1f} s")
        nbformat.write(notebook, Path(folder) / path.name)
