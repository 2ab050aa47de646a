"""The panel as a person meets it: a real JupyterLab, real jobs, a real endpoint, Chromium."""

from __future__ import annotations

import json
import shutil

import pytest
from jupyter_process import BASE, TOKEN, Starter, light_python, start_server, stop_server
from panel import FAILS, FALLS, GOES_ON, item, open_lab, open_panel
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.ranks]

EVIL = '<img src=x onerror="alert(1)"><script>alert(2)</script>'


def test_a_job_of_two_ranks_and_its_endpoint_are_seen(page, trained, pictures):
    panel = open_panel(page, trained)
    job = item(panel, "recent", "halves")
    expect(job.get_by_text("succeeded", exact=True)).to_be_visible()
    expect(job.get_by_text("2 ranks")).to_be_visible()
    expect(job.get_by_role("img")).to_be_visible()
    endpoint = item(panel, "endpoints", "halves")
    expect(endpoint.get_by_text("ready", exact=True)).to_be_visible()
    expect(endpoint.get_by_text("nbaas/v2/models/halves/infer")).to_be_visible()
    page.screenshot(path=pictures / "panel-trained.png")


def test_a_running_job_moves_and_stops_at_a_click(page, lab, start_job, pictures):
    start_job(FALLS, name="digits").wait(30)
    start_job(FAILS, name="broken").wait(30)
    job = start_job(GOES_ON, name="moving")
    panel = open_panel(page, lab)
    row = item(panel, "running", "moving")
    expect(row.get_by_text("2 of 2 ranks up")).to_be_visible()
    expect(row.get_by_text("steps/s")).to_be_visible(timeout=20_000)
    broken = item(panel, "recent", "broken")
    expect(broken.get_by_text("rank 0: ValueError: no such column")).to_be_visible()
    row.get_by_text("2 of 2 ranks up").click()
    expect(row.get_by_text("2 ranks on the CPU · ddp")).to_be_visible()
    page.screenshot(path=pictures / "panel-light.png")
    row.get_by_role("button", name="Finish the step of moving").click()
    expect(item(panel, "recent", "moving").get_by_text("stopped", exact=True)).to_be_visible(
        timeout=20_000
    )
    assert job.status().state == "STOPPED"


def test_a_stopping_job_is_killed_only_after_a_question(page, lab, start_job):
    stubborn = "signal.signal(signal.SIGTERM, lambda *_: None)\n" + GOES_ON
    job = start_job(stubborn, name="stubborn", stop_grace=60.0)
    panel = open_panel(page, lab)
    row = item(panel, "running", "stubborn")
    row.get_by_role("button", name="Finish the step").click()
    row.get_by_role("button", name="End the ranks of stubborn at once").click(timeout=20_000)
    page.get_by_role("button", name="Cancel").click()
    expect(row).to_be_visible()
    row.get_by_role("button", name="End the ranks of stubborn at once").click()
    page.locator(".jp-Dialog").get_by_role("button", name="Kill").click()
    expect(item(panel, "recent", "stubborn").get_by_text("cancelled", exact=True)).to_be_visible(
        timeout=20_000
    )
    assert job.status().state == "CANCELLED"


def test_a_log_opens_in_a_tab_follows_and_is_searched(page, lab, start_job, pictures):
    talks = "for n in range(1, 4000): print('line', n, 'rank', rank, flush=True); step(n, 0.01)"
    start_job(talks, name="talks")
    panel = open_panel(page, lab)
    item(panel, "running", "talks").get_by_role("button", name="Open the log").click()
    tab = page.locator(".nbaas-Log")
    text = tab.locator("pre")
    expect(text).to_contain_text("line 150 rank 0", timeout=30_000)
    tab.get_by_role("searchbox").fill("LINE 15 ")
    expect(text).to_have_text("line 15 rank 0")
    tab.get_by_role("searchbox").fill("")
    tab.get_by_label("Rank").select_option("1")
    expect(text).to_contain_text("line 5 rank 1")
    page.screenshot(path=pictures / "log.png")


def test_curves_open_in_a_tab_and_compare(page, lab, start_job, pictures):
    start_job(FALLS, name="first").wait(30)
    start_job(FALLS.replace("201", "121"), name="second").wait(30)
    panel = open_panel(page, lab)
    panel.get_by_role("button", name="first", exact=True).click()
    tab = page.locator(".nbaas-Curves")
    chart = tab.locator("figure[data-metric=loss]")
    expect(chart.locator("canvas")).to_be_visible()
    tab.get_by_label("Compare with another job").select_option(label="second")
    expect(chart.locator(".u-legend").get_by_text("second")).to_be_visible()
    page.screenshot(path=pictures / "curves.png")


def test_an_endpoint_is_tried_copied_and_undeployed(page, trained, pictures):
    panel = open_panel(page, trained)
    endpoint = item(panel, "endpoints", "halves")
    endpoint.get_by_role("button", name="Copy the URL").click()
    url = page.evaluate("navigator.clipboard.readText()")
    assert url == f"http://127.0.0.1:{trained.port}{BASE}nbaas/v2/models/halves/infer"
    endpoint.get_by_role("button", name="Copy a curl command").click()
    curl = page.evaluate("navigator.clipboard.readText()")
    assert url in curl
    assert TOKEN not in curl
    endpoint.get_by_role("button", name="Send a request").click()
    tab = page.locator(".nbaas-TryOut")
    tab.get_by_role("button", name="Send").click()
    answer = tab.locator("[data-answer]")
    expect(answer).to_contain_text('"model_name": "halves"', timeout=20_000)
    page.screenshot(path=pictures / "try.png")
    tab.get_by_label("JSON").check()
    tab.get_by_role("textbox").fill('{"inputs": [{"name": "nobody"}]}')
    tab.get_by_role("button", name="Send").click()
    expect(tab.get_by_role("alert")).to_be_visible()
    endpoint.get_by_role("button", name="Take halves down").click()
    page.get_by_role("button", name="Cancel").click()
    expect(endpoint).to_be_visible()
    endpoint.get_by_role("button", name="Take halves down").click()
    page.locator(".jp-Dialog").get_by_role("button", name="Undeploy").click()
    expect(panel.get_by_text("No model is deployed.")).to_be_visible(timeout=20_000)


def test_p67_what_others_wrote_is_text(page, lab, start_job, pictures):
    """Name, engine, host, failure and log of a job folder that somebody else made up."""
    job = start_job(f"print({EVIL!r})\nstep(1)\nraise ValueError({EVIL!r})", name="evil")
    job.wait(30)
    copied = job.paths.root.with_name("20261231-235959-0badf00d")
    shutil.copytree(job.paths.root, copied)
    spec = json.loads((copied / "spec.json").read_text())
    spec |= {"id": copied.name, "name": EVIL, "engine": EVIL, "origin": EVIL}
    spec["slots"] = [slot | {"host": EVIL} for slot in spec["slots"]]
    (copied / "spec.json").write_text(json.dumps(spec))
    panel = open_panel(page, lab)
    row = panel.locator(f"[data-job='{copied.name}']")
    expect(row.locator(".nbaas-Name")).to_have_text(EVIL)
    expect(row.get_by_text(f"ValueError: {EVIL}")).to_be_visible()
    row.get_by_role("button", name="Open the log").click()
    expect(page.locator(".nbaas-Log pre")).to_contain_text(EVIL)
    row.locator(".nbaas-Name").click()
    expect(page.locator(".nbaas-Trace")).to_contain_text(EVIL)
    expect(page.locator(".nbaas-Curves").get_by_text(EVIL, exact=True).first).to_be_visible()
    assert page.locator("img[src=x]").count() == 0
    page.screenshot(path=pictures / "evil.png")
    shutil.rmtree(copied)


def test_a_job_that_ends_is_announced_though_the_panel_is_hidden(page, lab, start_job):
    open_lab(page, lab)
    page.get_by_role("tab", name="File Browser").click()
    job = start_job(FAILS, name="unseen")
    job.wait(30)
    note = page.get_by_text("unseen: failed.")
    expect(note).to_be_visible(timeout=20_000)
    page.get_by_role("button", name="Log", exact=True).click()
    expect(page.locator(".nbaas-Log")).to_be_visible()


def test_a_name_in_an_announcement_is_text(page, lab, start_job):
    open_lab(page, lab)
    start_job(f"raise ValueError({EVIL!r})", name="noisy").wait(30)
    expect(page.get_by_text("noisy: failed.")).to_be_visible(timeout=20_000)
    assert page.locator("img[src=x]").count() == 0


def test_a_training_cell_gets_the_magic_and_a_job_is_attached(page, lab, start_job, pictures):
    cells = ["for x, y in loader:\n    loss.backward()", "print(1)"]
    notebook = {
        "cells": [
            {"cell_type": "code", "source": text, "metadata": {}, "outputs": [],
             "execution_count": None, "id": f"c{index}"}
            for index, text in enumerate(cells)
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        "nbformat": 4, "nbformat_minor": 5,
    }  # fmt: skip
    (lab.home / "train.ipynb").write_text(json.dumps(notebook))
    start_job(GOES_ON, name="going")
    panel = open_panel(page, lab, path="lab/tree/train.ipynb")
    editor = page.locator(".jp-Notebook .cm-content")
    editor.first.click(timeout=60_000)
    button = page.locator(".jp-cell-toolbar [data-command='nbaas:run-on-ranks'], "
                          ".jp-cell-toolbar [data-jp-item-name='nbaas-run']").first  # fmt: skip
    expect(button).to_be_visible()
    page.screenshot(path=pictures / "cell.png")
    button.click()
    page.locator(".jp-Dialog input").fill("4")
    page.locator(".jp-Dialog").get_by_role("button", name="OK").click()
    expect(editor.first).to_contain_text("%%train --ranks 4")
    expect(button).to_be_hidden()
    item(panel, "running", "going").get_by_role("button", name="%attach going").click()
    expect(editor.nth(1)).to_have_text("%attach going")


def test_the_last_answer_stays_while_the_server_is_away(page, tmp_path, start_job, errors):
    process, server = start_server(tmp_path / "lab", program="jupyterlab")
    try:
        Starter(server.home, light_python(tmp_path))(FALLS, name="left").wait(30)
        panel = open_panel(page, server)
        expect(item(panel, "recent", "left")).to_be_visible()
    finally:
        stop_server(process)
    expect(panel.get_by_role("alert")).to_be_visible(timeout=30_000)
    expect(item(panel, "recent", "left")).to_be_visible()
    errors.clear()  # JupyterLab's own: kernels and contents cannot be reached either


def test_tabs_and_folding_are_restored_after_a_reload(page, lab, start_job):
    start_job(FALLS, name="kept").wait(30)
    panel = open_panel(page, lab)
    item(panel, "recent", "kept").get_by_role("button", name="Open the log").click()
    expect(page.locator(".nbaas-Log pre")).to_contain_text("accuracy")
    panel.locator("[data-section=hosts] summary").first.click()
    page.wait_for_timeout(1500)  # JupyterLab writes its layout after a second
    panel = open_panel(page, lab, reset=False)
    expect(page.locator(".nbaas-Log pre")).to_contain_text("accuracy", timeout=30_000)
    expect(panel.locator("[data-section=hosts]")).not_to_have_attribute("open", "")


def test_in_the_dark_theme(page, lab, start_job, pictures):
    start_job(GOES_ON, name="dark")
    panel = open_panel(page, lab)
    page.get_by_text("Settings", exact=True).click()
    page.get_by_text("Theme", exact=True).hover()
    page.get_by_text("JupyterLab Dark", exact=True).click()
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", "false")
    expect(item(panel, "running", "dark").get_by_text("steps/s")).to_be_visible(timeout=20_000)
    background = panel.evaluate("node => getComputedStyle(node).backgroundColor")
    red, green, blue = (int(n) for n in background[4:-1].split(","))
    assert red + green + blue < 200
    panel.get_by_role("button", name="dark", exact=True).click()
    expect(page.locator("figure[data-metric=loss] canvas")).to_be_visible()
    page.screenshot(path=pictures / "panel-dark.png")
    page.get_by_text("Settings", exact=True).click()
    page.get_by_text("Theme", exact=True).hover()
    page.get_by_text("JupyterLab Light", exact=True).click()
