"""The panel sends little: appends, at most ten a second, decimated, and everything to a new view."""

from __future__ import annotations

import numpy as np
import pytest

from nbaas.widgets.curves import MOST_CURVES, Curves
from nbaas.widgets.panel import POINTS_HELD, Panel, front_end


class Recorder(Panel):
    """A panel whose messages are kept instead of sent."""

    def __init__(self, on_ask=None):
        self.sent = []
        self.kept = []  # what is sent of the widget's state
        super().__init__(on_ask)

    def send(self, content, buffers=None):
        self.sent.append((content, buffers or []))

    def send_state(self, key=None):
        self.kept.append(key)


@pytest.fixture
def panel():
    return Recorder()


def drawn(panel):
    """Return the points a front end holds after all messages, by curve."""
    held = {}
    for content, buffers in panel.sent:
        if content["kind"] != "curves":
            continue
        for index, curve in enumerate(content["curves"]):
            x = np.frombuffer(buffers[2 * index], np.float64)
            y = np.frombuffer(buffers[2 * index + 1], np.float32)
            assert len(x) == len(y)
            old = ([], []) if content["reset"] else held.get(curve["name"], ([], []))
            held[curve["name"]] = ([*old[0], *x], [*old[1], *y])
    return held


def test_only_new_points_travel(panel):
    curves = Curves()
    for step in range(10):
        curves.append(step, {"loss": step})
        panel.show({}, curves, last=True)
    assert drawn(panel)["loss"][0] == list(range(10))
    assert all(len(buffers[0]) == 8 for _, buffers in panel.sent)


def test_updates_are_limited_and_the_last_is_never_lost(panel):
    curves = Curves()
    accepted = 0
    for step in range(1000):
        curves.append(step, {"loss": step})
        accepted += panel.show({}, curves)
    assert accepted < 1000
    panel.show({}, curves, last=True)
    assert {0, 999} <= set(drawn(panel)["loss"][0])


def test_an_update_is_one_message(panel):
    curves = Curves()
    panel.show({"id": "job", "step": 0}, curves, last=True)
    panel.sent.clear()
    panel.kept.clear()
    for step in range(1, 6):
        curves.append(step, {"loss": step})
        panel._next = 0.0
        panel.show({"id": "job", "step": step}, curves)
    assert [content["view"]["step"] for content, _ in panel.sent] == [1, 2, 3, 4, 5]
    assert panel.kept == []
    # Without a new point the view has a message of its own; the end is kept for pages to come.
    panel._next = 0.0
    panel.show({"id": "job", "step": 5, "state": "STOPPING"}, curves)
    assert (len(panel.sent), panel.kept) == (5, ["view"])
    curves.append(6, {"loss": 6})
    panel.show({"id": "job", "step": 6}, curves, last=True)
    assert panel.view["step"] == 6


def test_a_front_end_never_holds_more_than_it_can_draw(panel):
    curves = Curves()
    for step in range(100_000):
        curves.append(step, {"loss": np.sin(step / 1000)})
        if step % 500 == 0:
            panel.show({}, curves, last=True)
            assert len(drawn(panel)["loss"][0]) <= POINTS_HELD + 2000
    assert sum(len(b) for _, buffers in panel.sent for b in buffers) < 4_000_000


def test_a_view_that_opens_late_gets_everything(panel):
    curves = Curves()
    for step in range(50):
        curves.append(step, {"loss": step, "acc": -step})
    panel.show({}, curves, last=True)
    panel.sent.clear()
    panel._heard(panel, {"kind": "ready"}, [])
    assert panel.seen.is_set()
    assert set(drawn(panel)) == {"loss", "acc"}
    assert drawn(panel)["acc"][0] == list(range(50))


def test_zooming_brings_the_points_of_that_range(panel):
    curves = Curves()
    for step in range(100_000):
        curves.append(step, {"loss": step})
    panel.show({}, curves, last=True)
    panel.sent.clear()
    panel._heard(panel, {"kind": "range", "range": [500, 600]}, [])
    assert drawn(panel)["loss"][0] == list(range(499, 602))


def test_buttons_are_passed_on_and_nonsense_is_not():
    asked = []
    panel = Recorder(asked.append)
    for message in ({"kind": "stop"}, "nonsense", None, {"no": "kind"}, {"kind": "log", "rank": 1}):
        panel._heard(panel, message, [])
    assert asked == [{"kind": "stop"}, {"kind": "log", "rank": 1}]


def test_the_front_end_is_one_module_with_the_licence_of_what_it_bundles():
    module = front_end("uplot.js", "chart.js", "gallery.js", "panel.js", "widget.js")
    assert 'from "./' not in module
    assert "MIT License" in module
    assert "http://" not in module.replace("http://www.w3.org", "")
    assert "innerHTML" not in front_end("chart.js", "gallery.js", "panel.js", "widget.js")


def test_a_run_that_goes_back_to_a_checkpoint_is_drawn_anew(panel):
    curves = Curves()
    for step in (1, 2, 3, 2):
        curves.append(step, {"loss": float(step)})
        panel.show({}, curves, last=True)
    assert drawn(panel)["loss"][0] == [1, 2]


def test_no_more_curves_travel_than_are_drawn(panel):
    curves = Curves()
    curves.append(1, {f"c{n}": 1.0 for n in range(1000)})
    panel.show({}, curves, last=True)
    panel._heard(panel, {"kind": "ready"}, [])
    assert len(drawn(panel)) == MOST_CURVES
