"""The live panel of a cell in Notebook 7, on one page and on two, before and after a restart."""

from __future__ import annotations

import re

import nbformat
import pytest
from jupyter_process import BASE, TOKEN, start_server, stop_server
from playwright.sync_api import TimeoutError as Unreached
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.ranks]
pytest.importorskip("notebook", reason="pip install notebook")

PREPARE = """
%load_ext nbaas
import time, torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(512, 8)
y = (x[:, 0] + x[:, 1] > 0).long()
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 32, shuffle=True)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
"""
TRAIN = """%%train --ranks 2 --engine ddp --name NAME FLAGS
for epoch in range(100_000):
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(xb), yb)
        loss.backward()
        optimizer.step()
        time.sleep(0.02)
    print("epoch", epoch, "loss", round(loss.item(), 3), flush=True)
"""


@pytest.fixture(scope="module")
def notebook7(tmp_path_factory):
    process, server = start_server(tmp_path_factory.mktemp("nb"), program="notebook")
    yield server
    stop_server(process)


@pytest.fixture(autouse=True)
def without_its_own_errors(page, errors):  # after the page: its end is checked last
    yield
    # Notebook 7.6 says this of its own settings, without our panel as well.
    errors[:] = [error for error in errors if "reading 'schema'" not in error]


def write(server, name, *cells):
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(made, server.home / f"{name}.ipynb")


def opened(page, server, name, count):
    """Open a notebook; returns its cells."""
    page.goto(f"http://127.0.0.1:{server.port}{BASE}notebooks/{name}.ipynb?token={TOKEN}")
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    expect(cells).to_have_count(count, timeout=90_000)
    expect(
        page.locator(".jp-NotebookKernelStatus, .jp-Notebook-ExecutionIndicator").first
    ).to_be_visible(timeout=60_000)
    return cells


def prompt(cell):
    return cell.locator(".jp-InputPrompt").first


def run(page, cell):
    """Start a cell: the keys are pressed until the prompt says that they were heard."""
    before = prompt(cell).inner_text()
    for _ in range(20):
        if page.locator(".jp-Dialog").count():  # Notebook asks for a kernel where one starts late
            page.locator(".jp-Dialog button.jp-mod-accept").first.click()
        try:
            cell.locator(".cm-content").first.click(timeout=3000)
        except Unreached:
            continue
        page.keyboard.press("Control+Enter")
        try:
            expect(prompt(cell)).not_to_have_text(before, timeout=3000)
        except AssertionError:
            continue
        return


def ran(cell):
    expect(prompt(cell)).to_have_text(re.compile(r"\[\d+\]"), timeout=90_000)


def epochs(panel, first):
    return panel.locator(".nbaas-progress").get_by_text(re.compile(rf"epoch ([{first}-9]|\d\d+)"))


def training(name, flags=""):
    return TRAIN.replace("NAME", name).replace("FLAGS", flags)


def shows_all(panel):
    """Expect the curve from its first step on, not only what came after the page was opened."""
    expect(panel.locator(".nbaas-chart:visible canvas").first).to_be_visible(timeout=60_000)
    expect(panel.locator(".nbaas-plot:visible").first).to_have_attribute("data-first", "1")


def step_of(panel):
    text = panel.locator(".nbaas-progress").inner_text(timeout=20_000)
    return int(re.search(r"step (\d+)", text)[1])


def test_the_panel_moves_and_its_stop_is_heard_while_the_cell_blocks(page, notebook7, pictures):
    write(notebook7, "stops", PREPARE, training("nb-stops"), "print('after', epoch > 0)")
    cells = opened(page, notebook7, "stops", 3)
    run(page, cells.nth(0))
    ran(cells.nth(0))
    run(page, cells.nth(1))
    panel = cells.nth(1).locator(".nbaas-panel")
    expect(panel.get_by_role("status")).to_have_text("RUNNING", timeout=60_000)
    expect(epochs(panel, 2)).to_be_visible(timeout=60_000)
    shows_all(panel)
    expect(prompt(cells.nth(1))).to_have_text("[*]:")
    page.screenshot(path=pictures / "notebook7-live.png")
    panel.get_by_role("button", name="Stop").click()
    expect(cells.nth(1)).to_contain_text("nb-stops: stopped after step", timeout=30_000)
    expect(cells.nth(1).locator(".nbaas-Run .nbaas-chart:visible canvas").first).to_be_visible()
    page.screenshot(path=pictures / "notebook7-stopped.png")
    run(page, cells.nth(2))
    expect(cells.nth(2)).to_contain_text("after True", timeout=30_000)


def test_a_second_page_keeps_step_and_attach_replays_after_a_restart(
    page, notebook7, pictures, eventually
):
    code = training("nb-shared", "--background")
    write(notebook7, "shared", PREPARE, code, "%load_ext nbaas\n%attach nb-shared")
    cells = opened(page, notebook7, "shared", 3)
    run(page, cells.nth(0))
    ran(cells.nth(0))
    run(page, cells.nth(1))
    first = cells.nth(1).locator(".nbaas-panel")
    expect(epochs(first, 2)).to_be_visible(timeout=60_000)
    page.keyboard.press("Control+s")
    # A second page, on the same notebook and its kernel.
    other = page.context.new_page()
    second = opened(other, notebook7, "shared", 3).nth(1).locator(".nbaas-panel")
    shows_all(second)
    for _ in range(2):
        ahead = max(step_of(first), step_of(second)) + 25
        eventually(lambda ahead=ahead: min(step_of(first), step_of(second)) >= ahead)
        # Half a second apart at most, once a browser has drawn the page that lies behind.
        eventually(lambda: abs(step_of(first) - step_of(second)) <= 25)
    other.screenshot(path=pictures / "notebook7-second-page.png")
    other.close()
    page.bring_to_front()
    page.get_by_role("menuitem", name="Kernel").click()
    page.locator(".lm-Menu").get_by_text("Restart Kernel…", exact=True).click()
    page.locator(".jp-Dialog").get_by_role("button", name="Confirm Kernel Restart").click()
    expect(page.locator(".jp-Dialog")).to_have_count(0)
    run(page, cells.nth(2))
    ran(cells.nth(2))
    attached = cells.nth(2).locator(".nbaas-panel")
    shows_all(attached)
    expect(attached.locator(".nbaas-log")).to_contain_text("epoch 1 loss", timeout=20_000)
    page.screenshot(path=pictures / "notebook7-attached.png")
    attached.get_by_role("button", name="Stop").click()
    expect(cells.nth(2)).to_contain_text("nb-shared: stopped", timeout=30_000)
