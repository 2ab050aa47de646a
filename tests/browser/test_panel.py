"""The panel as a person meets it: a real JupyterLab, real jobs, Chromium."""

from __future__ import annotations

import pytest
from jupyter_process import BASE, TOKEN
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.ranks]

FALLS = """
import math
for n in range(1, 201):
    step(n, 0.0005)
print("accuracy 0.97")
"""
GOES_ON = "print('on', flush=True)\nfor n in range(1, 100000): step(n, 0.02)"
FAILS = "step(1); step(2)\nraise ValueError('<img src=x onerror=alert(1)>')"


def open_panel(page, lab, theme=""):
    """Open JupyterLab with the panel in front; returns the panel."""
    page.goto(f"http://127.0.0.1:{lab.port}{BASE}lab?token={TOKEN}&reset")
    page.get_by_role("tab", name="Training and serving").click(timeout=60_000)
    panel = page.locator("#nbaas-panel")
    expect(panel).to_be_visible()
    return panel


def test_a_finished_job_is_seen_in_the_panel(page, lab, start_job, pictures):
    start_job(FALLS, name="digits").wait(30)
    start_job(FAILS, name="broken").wait(30)
    start_job(GOES_ON, name="moving")
    panel = open_panel(page, lab)
    recent = panel.locator("[data-section=recent]")
    expect(recent.get_by_text("digits", exact=True)).to_be_visible()
    expect(recent.get_by_text("succeeded")).to_be_visible()
    expect(panel.locator("[data-section=running]").get_by_text("moving")).to_be_visible()
    page.wait_for_timeout(3000)
    page.screenshot(path=pictures / "panel-light.png")
