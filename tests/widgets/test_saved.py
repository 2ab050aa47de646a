"""A notebook that was run and saved, for readers without a kernel and without our front end."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import nbformat
import pytest
from PIL import Image

import nbaas

ROOT = Path(nbaas.__file__).parents[1]

pytestmark = [pytest.mark.browser, pytest.mark.ranks]

PREPARE = """
%load_ext nbaas
import nbaas, numpy as np, torch
from torch import nn
x = torch.randn(256, 8)
y = (x[:, 0] > 0).long()
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 32, shuffle=True)
def fresh(lr):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    return model, torch.optim.SGD(model.parameters(), lr=lr)
model, optimizer = fresh(0.1)
"""
TRAIN = """%%train --ranks 2 --engine ddp --name NAME --out NAME_job
for epoch in range(6):
    correct = 0
    for xb, yb in loader:
        optimizer.zero_grad()
        out = model(xb)
        loss = nn.functional.cross_entropy(out, yb)
        loss.backward()
        optimizer.step()
        correct += (out.argmax(1) == yb).sum().item()
    acc = correct / len(x)
    nbaas.log(sample=np.full((8, 8), epoch / 6), weights=model)
    print("epoch", epoch, "acc", round(acc, 3))
"""
CELLS = (
    PREPARE,
    TRAIN.replace("NAME", "brisk"),
    "model, optimizer = fresh(0.01)",
    TRAIN.replace("NAME", "calm"),
    "%jobs --compare brisk calm",
    "brisk_job.compare(calm_job)",
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a notebook after its cells were run by nbclient, as its file holds it."""
    from nbclient import NotebookClient

    folder = tmp_path_factory.mktemp("saved")
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    environ = os.environ | {"NBAAS_HOME": str(folder / "home"), "PYTHONPATH": os.fspath(ROOT)}
    client = NotebookClient(made, timeout=120, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environ)
    nbformat.write(made, folder / "run.ipynb")
    return nbformat.read(folder / "run.ipynb", 4)


def of_kind(cell, kind):
    return [output.data[kind] for output in cell.outputs if kind in output.get("data", {})]


def test_viewers_that_know_pictures_and_text_show_the_run(saved):
    """GitHub and VS Code without our front end take the richest kind that they know."""
    kinds = {
        kind for cell in saved.cells for output in cell.outputs for kind in output.get("data", ())
    }
    assert not any("widget" in kind for kind in kinds)
    for cell, name in ((saved.cells[1], "brisk"), (saved.cells[3], "calm")):
        (figure,) = of_kind(cell, "image/png")
        assert len(figure) < 4 / 3 * 100_000
        image = Image.open(io.BytesIO(base64.b64decode(figure)))
        assert image.width > 1000
        assert len(image.convert("RGB").getcolors(1 << 20)) > 10
        words = of_kind(cell, "text/plain")
        assert sum(text.startswith(f"{name}: succeeded on 2 ranks") for text in words) == 2
        printed = "".join(output.get("text", "") for output in cell.outputs)
        assert "epoch 5 acc" in printed
    for cell in saved.cells[4:6]:
        assert len(of_kind(cell, "image/png")) == 1
        (table,) = of_kind(cell, "text/html")
        assert "<b>" in table


def test_html_and_paper_show_figures_and_words(saved, page, pictures, tmp_path, errors):
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter().from_notebook_node(saved)
    (tmp_path / "run.html").write_text(body)
    page.goto((tmp_path / "run.html").as_uri(), wait_until="domcontentloaded")
    for name in ("brisk", "calm"):
        assert page.get_by_text(f"{name}: succeeded on 2 ranks").first.is_visible()
    assert page.get_by_text("Error displaying widget").count() == 0
    sizes = page.locator("img").evaluate_all("all => all.map(one => one.naturalWidth)")
    assert len(sizes) == 4
    assert min(sizes) > 1000
    page.screenshot(path=pictures / "saved.png", full_page=True)
    paper = page.pdf(path=pictures / "saved.pdf")
    assert paper.count(b"/Subtype /Image") >= 3  # that of the comparison is in it once
    errors.clear()  # nbconvert's own scripts, which are not reached without a network
