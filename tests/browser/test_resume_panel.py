"""Stop and resume by the panel's buttons: two real ranks, a real JupyterLab, Chromium."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from panel import item, open_panel
from playwright.sync_api import expect

from nbaas.config import Settings
from nbaas.jobs.store import list_jobs

pytestmark = [pytest.mark.browser, pytest.mark.ranks]


@pytest.fixture
def thirds(lab):
    """A job of two ranks that saves a checkpoint at each step; its notebook is closed."""
    script = Path(__file__).with_name("start_long_training.py")
    environ = os.environ | {"NBAAS_HOME": str(lab.home), "NBAAS_STOP_GRACE": "20"}
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    yield "thirds"
    for job in found(lab):
        job.kill()
        job.wait(10)


def found(lab):
    return [
        job
        for job in list_jobs(Settings(home=lab.home, cache=lab.home))
        if job.spec.name == "thirds"
    ]


def test_a_stopped_job_goes_on_to_its_end_at_a_click(page, lab, thirds, pictures):
    panel = open_panel(page, lab)
    row = item(panel, "running", thirds)
    expect(row.get_by_text("steps/s")).to_be_visible(timeout=60_000)
    row.get_by_role("button", name="Finish the step of thirds").click()
    ended = item(panel, "recent", thirds)
    expect(ended.get_by_text("stopped", exact=True)).to_be_visible(timeout=40_000)
    resume = ended.get_by_role("button", name="Go on with thirds from its checkpoint")
    expect(resume).to_be_visible()
    page.screenshot(path=pictures / "resume-offered.png")
    resume.click()
    expect(item(panel, "running", thirds)).to_be_visible(timeout=30_000)
    page.screenshot(path=pictures / "resumed.png")
    expect(ended.get_by_text("succeeded", exact=True)).to_be_visible(timeout=90_000)
    (*_, last) = sorted(found(lab), key=lambda job: job.id)
    assert re.findall(r"epoch \d done", last.log(0).path.read_text())[-1] == "epoch 3 done"
    assert last.status().state == "SUCCEEDED"
