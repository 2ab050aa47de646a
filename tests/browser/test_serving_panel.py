"""Endpoints and hosts in the panel: every button does what it says, at a real endpoint."""

from __future__ import annotations

import json

import pytest
from panel import GOES_ON, item, open_panel
from playwright.sync_api import expect

from nbaas.config import Settings
from nbaas.deploy.client import deploy, token
from nbaas.deploy.hosting import stop_host

pytestmark = [pytest.mark.browser, pytest.mark.ranks]

NAME = "shared"
INFER = f"nbaas/v2/models/{NAME}/infer"


@pytest.fixture(scope="module")
def served(lab):
    """The lab with an endpoint of three versions, the third of which is current."""
    import torch

    settings = Settings(home=lab.home, cache=lab.home)
    for factor in (1.0, 2.0, 3.0):
        model = torch.nn.Linear(2, 1, bias=False)
        torch.nn.init.constant_(model.weight, factor)
        deploy(settings, model.eval(), name=NAME, example=torch.zeros(1, 2))
    yield settings
    stop_host(settings)


def row(lab):
    rows = lab.get("nbaas/api/endpoints").json["endpoints"]
    return next(one for one in rows if one["name"] == NAME)


def ask(lab, times=1):
    (signature,) = row(lab)["inputs"]
    entry = {"name": signature["name"], "datatype": "FP32", "shape": [1, 2], "data": [1, 1]}
    for _ in range(times):
        assert lab.post(INFER, json.dumps({"inputs": [entry]}).encode()).status == 200


def test_traffic_and_latency_are_drawn_as_they_come(page, lab, served, eventually, pictures):
    panel = open_panel(page, lab)
    endpoint = item(panel, "endpoints", NAME)

    def drawn():
        ask(lab, 5)
        page.wait_for_timeout(200)
        return endpoint.get_by_role("img", name=f"Latency of {NAME}").count()

    eventually(drawn)
    expect(endpoint.get_by_role("img", name=f"Traffic of {NAME}")).to_be_visible()
    expect(endpoint.get_by_text("p99")).to_be_visible()
    expect(endpoint.get_by_text("1 of 1 ready")).to_be_visible()
    page.screenshot(path=pictures / "endpoint.png")


def test_a_version_gets_a_share_by_slider_and_is_promoted(page, lab, served, eventually, pictures):
    panel = open_panel(page, lab)
    endpoint = item(panel, "endpoints", NAME)
    endpoint.get_by_role("button", name="version 3 of 3").click()
    expect(endpoint.locator(".nbaas-Versions li")).to_have_count(3)
    endpoint.get_by_role("button", name="Give version 1 10 % of the requests").click()
    slider = endpoint.get_by_role("slider", name="Share of version 1")
    expect(slider).to_have_value("10", timeout=30_000)
    page.screenshot(path=pictures / "canary.png")
    slider.focus()
    for _ in range(15):
        page.keyboard.press("ArrowRight")
    eventually(lambda: (row(lab)["canary"] or {}).get("percent") == 25)
    expect(slider).to_have_value("25")
    endpoint.get_by_role("button", name="Let version 1 answer everything").click()
    expect(slider).to_have_count(0, timeout=30_000)
    eventually(lambda: row(lab)["version"] == 1)
    endpoint.get_by_role("button", name=f"Let {NAME} answer with version 3").click()
    page.locator(".jp-Dialog").get_by_role("button", name="Serve").click()
    expect(endpoint.get_by_text("version 3 of 3")).to_be_visible(timeout=30_000)
    endpoint.get_by_role("button", name="Give version 2 10 % of the requests").click()
    expect(endpoint.get_by_role("slider")).to_be_visible(timeout=30_000)
    endpoint.get_by_role("button", name="Send nothing to version 2").click()
    expect(endpoint.get_by_role("slider")).to_have_count(0, timeout=30_000)
    assert row(lab)["version"] == 3


def test_rolling_back_asks_first(page, lab, served, eventually):
    panel = open_panel(page, lab)
    button = item(panel, "endpoints", NAME).get_by_role("button", name="with the version before")
    before = row(lab)["version"]
    button.click()
    page.locator(".jp-Dialog").get_by_role("button", name="Cancel").click()
    assert row(lab)["version"] == before
    button.click()
    page.locator(".jp-Dialog").get_by_role("button", name="Roll back").click()
    expect(panel.get_by_text(f"version {before} of")).to_have_count(0, timeout=60_000)
    assert row(lab)["version"] != before


def test_the_token_is_copied_at_a_click_only(page, lab, served):
    panel = open_panel(page, lab)
    secret = token(served, NAME)
    assert secret not in page.content()
    item(panel, "endpoints", NAME).get_by_role("button", name="Copy the token").click()
    expect(page.get_by_text("is copied: keep it secret")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == secret
    assert secret not in page.content()


def test_the_form_is_that_of_the_signature(page, lab, served, pictures):
    panel = open_panel(page, lab)
    item(panel, "endpoints", NAME).get_by_role("button", name="Send a request").click()
    tab = page.locator(".nbaas-TryOut")
    field = tab.get_by_role("textbox")
    expect(field).to_have_value("[[0,0]]")
    field.fill("[[1, 1], [2, 2]]")
    tab.get_by_role("button", name="Send").click()
    answer = tab.locator("[data-answer]")
    expect(answer).to_contain_text('"shape": [2, 1]', timeout=20_000)
    page.screenshot(path=pictures / "form.png")
    field.fill("[[1, 1], [2]]")
    tab.get_by_role("button", name="Send").click()
    expect(tab.get_by_role("alert")).to_contain_text("rows are not equally long")
    field.fill("[[1, 1, 1]]")
    tab.get_by_role("button", name="Send").click()
    expect(tab.get_by_role("alert")).to_be_visible()
    tab.get_by_label("JSON").check()
    field.fill('{"inputs": []}')
    tab.get_by_role("button", name="Send").click()
    expect(tab.get_by_role("alert")).to_be_visible()


def test_a_host_names_its_jobs_and_is_checked(page, lab, start_job, pictures):
    (lab.home / "config.toml").write_text('[clusters.lab]\nhosts = ["127.0.0.2:4", "127.0.0.3"]\n')
    start_job(GOES_ON, name="busy")
    panel = open_panel(page, lab)
    here = panel.locator("[data-section=hosts] li[data-host]").first
    expect(here.get_by_text("0 of 2 cores free")).to_be_visible(timeout=20_000)
    expect(here.locator(".nbaas-Users")).to_contain_text("busy2 ranks")
    other = panel.locator("[data-host='127.0.0.2']")
    expect(other.get_by_text("4 slots")).to_be_visible()
    here.get_by_role("button", name="has and lacks").click()
    facts = here.locator(".nbaas-Facts")
    expect(facts.locator("li", has_text="torch").first).to_have_attribute("data-ok", "true")
    expect(here.get_by_role("status")).not_to_be_empty()
    page.screenshot(path=pictures / "hosts.png")
    here.get_by_role("button", name="Close the check").click()
    expect(facts).to_have_count(0)
    (lab.home / "config.toml").unlink()
