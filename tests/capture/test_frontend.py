"""A cell in a rank finds what it expects of a notebook: display, magics, progress bars, no input."""

from __future__ import annotations

import pytest

from tests.capture.notebook import CellError


def test_display_is_shown_wherever_it_came_from(notebook):
    notebook.cell("from IPython.display import HTML, display as show")
    notebook.train("""
        from IPython.display import clear_output, display as again
        display("builtin"); show(HTML("<i>captured</i>")); again("imported"); clear_output()
    """)
    kinds = [record["kind"] for record in notebook.shown]
    assert kinds == ["display_data"] * 3 + ["clear_output"]
    assert notebook.shown[0]["data"]["text/plain"] == "'builtin'"
    assert notebook.shown[1]["data"]["text/html"] == "<i>captured</i>"
    assert notebook.shown[2]["data"]["text/plain"] == "'imported'"


def test_a_display_is_updated_in_place(notebook):
    notebook.train("handle = display(1, display_id='here')\nhandle.update(2)\ndel handle")
    first, second = notebook.shown
    assert second["kind"] == "update_display_data"
    assert first["display_id"] == second["display_id"] == "here"


def test_figures_that_are_open_at_the_end_are_shown(notebook):
    notebook.cell("import matplotlib\nmatplotlib.use('agg')\nimport matplotlib.pyplot as plt")
    notebook.train("plt.plot([1, 2])\nplt.show()\nplt.figure(figsize=(1, 1))\nx = 1")
    assert len(notebook.shown) == 2
    assert all("image/png" in {**r["data"], **r["files"]} for r in notebook.shown)


def test_magics_that_make_sense_work_and_others_say_so(notebook):
    notebook.cell("def work(): return 5")
    notebook.train("""
        get_ipython().run_line_magic('matplotlib', 'inline')
        get_ipython().run_line_magic('time', 'answer = work()')
        get_ipython().system('echo from the shell')
        lines = get_ipython().getoutput('printf "a\\nb"')
    """)
    assert notebook["answer"] == 5
    assert "from the shell" in notebook.output
    assert notebook["lines"] == ["a", "b"]
    assert notebook["lines"].s == "a b"
    with pytest.raises(CellError, match="%pip does not run in a rank"):
        notebook.train("get_ipython().run_line_magic('pip', 'install x')")


def test_a_shell_line_is_filled_in_from_the_notebook_and_the_cell(notebook):
    notebook.cell("word = 'hello'\nlayers = [1, 2]")
    notebook.train("""
        epoch = 3
        get_ipython().system('echo {epoch + 1} $word {layers[1]} $HOME_OF_NOBODY! {{x}}')
        kept = get_ipython().getoutput("awk 'BEGIN { print 1 }'")
    """)
    assert "4 hello 2 ! {x}" in notebook.output
    assert notebook["kept"] == ["1"]


def test_the_shell_itself_does_not_travel(notebook):
    from IPython.core.autocall import ZMQExitAutocall

    notebook.namespace["exit"] = ZMQExitAutocall()
    contents = notebook.capture("exit")
    assert [name.name for name in contents.names] == []


def test_a_function_that_asks_is_told_that_nobody_answers(notebook):
    notebook.cell("def ask(): return input('who? ')")
    with pytest.raises(CellError, match="nobody can answer"):
        notebook.train("ask()")


def test_notebook_progress_bars_become_text(notebook):
    pytest.importorskip("tqdm")
    notebook.train("""
        from tqdm.notebook import tqdm
        total = sum(tqdm(range(3), desc="steps"))
    """)
    assert notebook["total"] == 3
    assert "steps: 100%" in notebook.output


def test_await_works_at_the_top_level(notebook):
    notebook.cell("async def answer(): return 42")
    notebook.train("value = await answer()")
    assert notebook["value"] == 42
