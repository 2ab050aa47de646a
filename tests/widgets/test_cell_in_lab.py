"""The live panel of a cell as a person meets it: JupyterLab, a real run of two ranks, Chromium."""

from __future__ import annotations

import json
import re

import nbformat
import pytest
from jupyter_process import BASE, TOKEN, start_server, stop_server
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.ranks]

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
for epoch in range(EPOCHS):
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(xb), yb)
        loss.backward()
        optimizer.step()
        time.sleep(0.02)
    print("epoch", epoch, "loss", round(loss.item(), 3), flush=True)
"""


def training(name, epochs, flags=""):
    return TRAIN.replace("NAME", name).replace("EPOCHS", str(epochs)).replace("FLAGS", flags)


def open_notebook(page, lab, name, *cells):
    """Write a notebook, open it in JupyterLab, run its first cell; returns its cells."""
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in (PREPARE, *cells)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(made, lab.home / f"{name}.ipynb")
    page.goto(f"http://127.0.0.1:{lab.port}{BASE}lab/tree/{name}.ipynb?token={TOKEN}&reset")
    shown = page.locator(".jp-Notebook .jp-CodeCell")
    expect(shown).to_have_count(len(cells) + 1, timeout=90_000)
    page.get_by_role("button", name="Python 3").first.wait_for()
    run(page, shown.nth(0))
    expect(prompt(shown.nth(0))).to_have_text(re.compile(r"\[\d+\]"), timeout=90_000)
    return shown


FINAL = {"application/vnd.nbaas.run+json", "image/png", "text/html", "text/plain"}


def saved(page, lab, name):
    """Save the notebook; returns the kinds of outputs that its file holds in the training cell."""
    page.keyboard.press("Control+s")
    expect(page.locator(".jp-mod-dirty")).to_have_count(0)
    outputs = json.loads((lab.home / f"{name}.ipynb").read_text())["cells"][1]["outputs"]
    return {kind for output in outputs for kind in output.get("data", {})}


def progress(panel):
    return panel.locator(".nbaas-progress")


def prompt(cell):
    return cell.locator(".jp-InputPrompt").first


def run(page, cell):
    """Start a cell: the keys are pressed until the prompt says that they were heard."""
    for _ in range(20):
        cell.locator(".cm-content").first.click()
        page.keyboard.press("Control+Enter")
        try:
            expect(prompt(cell)).not_to_have_text("[ ]:", timeout=2000)
        except AssertionError:
            continue
        return


def test_the_panel_moves_while_the_cell_blocks_and_leaves_a_figure(page, lab, pictures):
    cells = open_notebook(page, lab, "moves", training("moves", 12))
    run(page, cells.nth(1))
    panel = cells.nth(1).locator(".nbaas-panel")
    expect(panel.get_by_role("status")).to_have_text("RUNNING", timeout=60_000)
    expect(panel).to_contain_text("2 ranks on the CPU · ddp")
    expect(panel.locator(".nbaas-chart:visible canvas").first).to_be_visible()
    expect(progress(panel).get_by_text(re.compile(r"epoch [3-9] of 12"))).to_be_visible(
        timeout=30_000
    )
    expect(panel.locator(".nbaas-ranks tr")).to_have_count(3)
    expect(prompt(cells.nth(1))).to_have_text("[*]:")
    page.screenshot(path=pictures / "cell-live.png")
    left = cells.nth(1).locator(".nbaas-Run")
    expect(left.get_by_role("status")).to_have_text("SUCCEEDED", timeout=60_000)
    expect(left.locator(".nbaas-chart:visible canvas").first).to_be_visible()
    expect(cells.nth(1)).to_contain_text("moves: succeeded on 2 ranks on the CPU (ddp), 12 epochs")
    expect(cells.nth(1)).to_contain_text("epoch 11 loss")
    expect(cells.nth(1)).to_contain_text("core-hours")
    page.screenshot(path=pictures / "cell-after.png")
    # Without a kernel the panel is drawn from the file; the log is still with the server.
    assert saved(page, lab, "moves") == FINAL
    page.reload()
    left = page.locator(".nbaas-Run")
    expect(left.locator(".nbaas-chart:visible canvas").first).to_be_visible(timeout=60_000)
    left.get_by_role("button", name="log", exact=True).nth(1).click()
    expect(left.locator(".nbaas-log")).to_contain_text("epoch 11 loss")


def test_a_page_that_was_loaded_anew_keeps_the_end_of_a_cell_that_blocks(page, lab, pictures):
    cells = open_notebook(page, lab, "anew", training("anew", 12))
    run(page, cells.nth(1))
    panel = cells.nth(1).locator(".nbaas-panel")
    expect(progress(panel).get_by_text(re.compile(r"epoch [3-9] of 12"))).to_be_visible(
        timeout=60_000
    )
    assert saved(page, lab, "anew") != FINAL
    page.reload()
    left = page.locator(".nbaas-Run")
    expect(left.get_by_role("status")).to_have_text("SUCCEEDED", timeout=90_000)
    expect(left.locator(".nbaas-chart:visible canvas").first).to_be_visible()
    expect(page.locator(".jp-Notebook")).to_contain_text("anew: succeeded on 2 ranks")
    page.screenshot(path=pictures / "cell-anew.png")
    assert saved(page, lab, "anew") == FINAL


def test_the_buttons_save_and_stop_while_the_cell_blocks(page, lab, pictures, eventually):
    cells = open_notebook(page, lab, "stops", training("stops", 100_000), "print(epoch > 0)")
    run(page, cells.nth(1))
    panel = cells.nth(1).locator(".nbaas-panel")
    expect(progress(panel).get_by_text(re.compile(r"epoch [2-9]"))).to_be_visible(timeout=60_000)
    panel.get_by_role("button", name="Checkpoint").click()
    # Saved at the end of a pass, while the cell goes on.
    eventually(lambda: list((lab.home / "jobs").glob("*/ckpt/*")))
    panel.get_by_role("button", name="Stop").click()
    expect(cells.nth(1)).to_contain_text("stops: stopped after step", timeout=20_000)
    page.screenshot(path=pictures / "cell-stopped.png")
    run(page, cells.nth(2))
    expect(cells.nth(2)).to_contain_text("True", timeout=20_000)


def test_a_reload_shows_the_whole_history_of_a_background_job(page, lab, pictures):
    code = training("reloads", 100_000, "--background")
    cells = open_notebook(page, lab, "reloads", code, "%stop reloads --kill")
    run(page, cells.nth(1))
    panel = cells.nth(1).locator(".nbaas-panel")
    expect(progress(panel).get_by_text(re.compile(r"epoch [3-9]"))).to_be_visible(timeout=60_000)
    page.keyboard.press("Control+s")
    expect(page.locator(".jp-mod-dirty")).to_have_count(0)
    page.reload()
    panel = page.locator(".nbaas-panel")
    expect(panel.locator(".nbaas-chart:visible canvas").first).to_be_visible(timeout=60_000)
    expect(progress(panel).get_by_text(re.compile(r"epoch ([3-9]|\d\d)"))).to_be_visible()
    # The first step is drawn, not only what came after the reload.
    expect(panel.locator(".nbaas-plot:visible").first).to_have_attribute("data-first", "1")
    page.screenshot(path=pictures / "cell-reloaded.png")
    # Nobody prints what a background job prints: its panel shows the log.
    expect(panel.locator(".nbaas-log")).to_contain_text("epoch 1 loss")
    run(page, page.locator(".jp-Notebook .jp-CodeCell").nth(2))
    expect(panel.get_by_role("status")).to_have_text("CANCELLED", timeout=30_000)


def test_the_panel_reads_well_in_the_dark_and_at_400_pixels(page, lab, pictures):
    cells = open_notebook(page, lab, "narrow", training("narrow", 100_000, "--background"))
    page.get_by_text("Settings", exact=True).click()
    page.get_by_text("Theme", exact=True).hover()
    page.get_by_text("JupyterLab Dark", exact=True).click()
    run(page, cells.nth(1))
    panel = cells.nth(1).locator(".nbaas-panel")
    expect(progress(panel).get_by_text(re.compile(r"epoch [3-9]"))).to_be_visible(timeout=60_000)
    panel.evaluate("node => { node.style.width = '400px'; node.style.boxSizing = 'border-box'; }")
    panel.get_by_role("button", name="log scale").click()
    panel.get_by_role("button", name="smoothing").click()
    page.wait_for_timeout(500)
    panel.screenshot(path=pictures / "cell-narrow-dark.png")
    assert panel.evaluate("node => node.scrollWidth <= node.clientWidth")
    panel.get_by_role("button", name="Stop").focus()
    page.keyboard.press("Enter")
    expect(cells.nth(1).locator(".nbaas-Run .nbaas-chart:visible canvas").first).to_be_visible(
        timeout=30_000
    )
    page.get_by_text("Settings", exact=True).click()
    page.get_by_text("Theme", exact=True).hover()
    page.get_by_text("JupyterLab Light", exact=True).click()


def test_curves_are_hovered_zoomed_and_switched_off(page, lab, pictures):
    code = training("looked-at", 100_000, "--background")
    cells = open_notebook(page, lab, "looked", code, "%stop looked-at")
    run(page, cells.nth(1))
    panel = cells.nth(1).locator(".nbaas-panel")
    expect(progress(panel).get_by_text(re.compile(r"epoch [4-9]"))).to_be_visible(timeout=60_000)
    plot = panel.locator(".nbaas-plot:visible .u-over").first
    key = panel.locator(".nbaas-key:visible").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    at = {f: (box["x"] + f * box["width"], box["y"] + 40) for f in (0.1, 0.3, 0.6)}
    page.mouse.move(*at[0.1])
    early = key.locator("b").inner_text()
    page.mouse.move(*at[0.6])
    expect(key.locator("b")).not_to_have_text(early)
    page.mouse.move(*at[0.3])
    page.mouse.down()
    page.mouse.move(*at[0.6], steps=5)
    page.mouse.up()
    whole = panel.get_by_role("button", name="show all").first
    expect(whole).to_be_visible()
    panel.screenshot(path=pictures / "cell-zoomed.png")
    whole.click()
    expect(whole).to_be_hidden()
    key.click()
    expect(key).to_have_attribute("aria-pressed", "false")
    key.click()
    expect(key).to_have_attribute("aria-pressed", "true")
    # Only now: at its end the panel gives its place to the figure.
    run(page, cells.nth(2))
    expect(cells.nth(1).locator(".nbaas-Run .nbaas-chart:visible canvas").first).to_be_visible(
        timeout=30_000
    )


PICTURES = """%%train --ranks 2 --engine ddp --name tiles --background
import nbaas, numpy as np
for epoch in range(100_000):
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(xb), yb)
        loss.backward()
        optimizer.step()
        time.sleep(0.02)
    nbaas.log(sample=np.full((16, 16), epoch % 10 / 10), weights=model[0])
"""


def test_pictures_and_histograms_are_tiles_with_their_steps(page, lab, pictures):
    cells = open_notebook(page, lab, "tiles", PICTURES, "%stop tiles")
    run(page, cells.nth(1))
    panel = cells.nth(1).locator(".nbaas-panel")
    sample = panel.locator(".nbaas-tile").filter(has_text="sample")
    # The first is of step 16; the tile follows the newest until somebody goes back.
    expect(sample.locator("figcaption")).to_contain_text(re.compile(r"step (4[89]|[5-9]\d|\d{3})"),
                                                         timeout=90_000)  # fmt: skip
    assert sample.locator("img").evaluate("one => one.naturalWidth") > 0
    expect(
        panel.locator(".nbaas-tile").filter(has_text="weights/bias").locator("svg")
    ).to_be_visible()
    for _ in range(60):
        if not sample.get_by_role("button", name="earlier sample").is_enabled():
            break
        sample.get_by_role("button", name="earlier sample").click()
    expect(sample.locator("figcaption")).to_contain_text("step 16")
    sample.get_by_role("button", name="later sample").click()
    expect(sample.locator("figcaption")).to_contain_text("step 32")
    panel.scroll_into_view_if_needed()
    panel.screenshot(path=pictures / "cell-tiles.png")
    run(page, cells.nth(2))
    left = cells.nth(1).locator(".nbaas-Run .nbaas-tile").filter(has_text="sample")
    expect(left.locator("img")).to_be_visible(timeout=30_000)


def test_notebook_7_shows_the_same_panel_and_keeps_the_same(page, tmp_path, pictures, errors):
    pytest.importorskip("notebook", reason="pip install notebook")
    process, server = start_server(tmp_path / "nb", program="notebook")
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in (PREPARE, training("seven", 12))],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(made, server.home / "seven.ipynb")
    try:
        page.goto(f"http://127.0.0.1:{server.port}{BASE}notebooks/seven.ipynb?token={TOKEN}")
        cells = page.locator(".jp-Notebook .jp-CodeCell")
        expect(cells).to_have_count(2, timeout=90_000)
        run(page, cells.nth(0))
        expect(prompt(cells.nth(0))).to_have_text(re.compile(r"\[\d+\]"), timeout=90_000)
        run(page, cells.nth(1))
        panel = cells.nth(1).locator(".nbaas-panel")
        expect(progress(panel).get_by_text(re.compile(r"epoch [3-9] of 12"))).to_be_visible(
            timeout=60_000
        )
        expect(panel.locator(".nbaas-chart:visible canvas").first).to_be_visible()
        page.screenshot(path=pictures / "cell-notebook-live.png")
        left = cells.nth(1).locator(".nbaas-Run")
        expect(left.get_by_role("status")).to_have_text("SUCCEEDED", timeout=60_000)
        expect(cells.nth(1)).to_contain_text("seven: succeeded on 2 ranks on the CPU (ddp)")
        page.screenshot(path=pictures / "cell-notebook-after.png")
    finally:
        stop_server(process)
    # Notebook 7.6 says this of its own settings, without our panel as well.
    errors[:] = [error for error in errors if "reading 'schema'" not in error]
