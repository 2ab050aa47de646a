"""How the browser tests get at the panel."""

from __future__ import annotations

from jupyter_process import BASE, TOKEN
from playwright.sync_api import expect

FALLS = """
for n in range(1, 201):
    step(n, 0.0005)
print("accuracy 0.97")
"""
GOES_ON = "print('on', flush=True)\nfor n in range(1, 100000): step(n, 0.02)"
FAILS = "step(1); step(2)\nraise ValueError('no such column')"


def open_lab(page, lab, path="lab", *, reset=True):
    page.goto(f"http://127.0.0.1:{lab.port}{BASE}{path}?token={TOKEN}{'&reset' if reset else ''}")
    page.get_by_role("tab", name="Training and serving").wait_for(timeout=90_000)


def open_panel(page, lab, **options):
    """Open JupyterLab with the panel in front; returns the panel."""
    open_lab(page, lab, **options)
    tab = page.get_by_role("tab", name="Training and serving")
    if tab.get_attribute("aria-selected") != "true":
        tab.click()
    panel = page.locator("#nbaas-panel")
    expect(panel.locator("[data-section=recent]")).to_be_visible(timeout=30_000)
    return panel


def item(panel, section, name):
    return panel.locator(f"[data-section={section}] li").filter(has_text=name).first
