"""A cell in a rank runs as in the notebook: last value, figures, magics, await."""

from __future__ import annotations

import base64

import pytest

from nbaas.bundle import JournalSink, set_sink
from nbaas.journal import JournalReader


@pytest.fixture
def shown(tmp_path):
    """Return a function that gives the records shown so far."""
    sink = JournalSink(tmp_path / "displays.jsonl")
    set_sink(sink)
    yield JournalReader(tmp_path / "displays.jsonl").read
    set_sink(None)
    sink.close()


def run(bundle):
    namespace = {"__name__": "__main__"}
    bundle.execute(namespace)
    return namespace


def test_the_last_expression_is_shown(opened, shown):
    run(opened("x = 3\nx + 1"))
    (record,) = shown()
    assert record["kind"] == "execute_result"
    assert record["data"] == {"text/plain": "4"}


@pytest.mark.parametrize("source", ["x = 3\nx;", "x = 3", "None", "x = 1  # comment"])
def test_nothing_is_shown_where_the_notebook_shows_nothing(opened, shown, source):
    run(opened(source))
    assert shown() == []


def test_rich_forms_are_shown_with_their_text(opened, shown):
    source = """
class Rich:
    def __repr__(self): return "x"
    def _repr_html_(self): return "<b>x</b>"
Rich()
"""
    run(opened(source))
    assert shown()[0]["data"] == {"text/html": "<b>x</b>", "text/plain": "x"}


def test_a_broken_rich_form_costs_only_itself(opened, shown):
    run(
        opened(
            "class Rich:\n    def _repr_html_(self): 1 / 0\n    def __repr__(self): return 'x'\nRich()"
        )
    )
    assert shown()[0]["data"] == {"text/plain": "x"}


def test_figures_are_shown_as_images(opened, shown, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://nbaas.bundle.figures")
    import matplotlib.pyplot as plt

    plt.switch_backend("module://nbaas.bundle.figures")
    run(
        opened("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\nplt.figure()\nx = 1")
    )
    records = shown()
    assert len(records) == 2
    for record in records:
        text = record["data"].get("image/png") or (
            (tmp_path / record["files"]["image/png"]).read_text()
        )
        assert base64.b64decode(text).startswith(b"\x89PNG")
    assert plt.get_fignums() == []


def test_large_images_lie_beside_the_journal(shown, tmp_path):
    from nbaas.bundle.displays import display

    display({"image/png": "A" * 100_000, "text/plain": "image"}, raw=True)
    (record,) = shown()
    assert record["data"] == {"text/plain": "image"}
    assert (tmp_path / record["files"]["image/png"]).read_text() == "A" * 100_000


def test_without_a_sink_nothing_is_shown(opened):
    set_sink(None)
    run(opened("42"))


def test_await_at_the_top_level_works(opened):
    source = "async def f(): return 7\nx = await f()\ny = [await f() for _ in range(2)]\nx"
    namespace = run(opened(source))
    assert namespace["x"] == 7
    assert namespace["y"] == [7, 7]


def test_an_error_after_await_shows_the_cells_lines(opened):
    from nbaas.bundle import describe_failure

    bundle = opened("import asyncio\nawait asyncio.sleep(0)\n1 / 0")
    with pytest.raises(ZeroDivisionError) as caught:
        run(bundle)
    assert "---> 3 1 / 0" in describe_failure(caught.value, 0, bundle).traceback
