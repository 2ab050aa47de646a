"""The same cell in a plain terminal and under nbclient: text where there is no widget, a clean file."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from cells import LOOP, SETUP
from kernel_notebook import ROOT, WIDGET, Cell, Notebook

pytestmark = pytest.mark.ranks


def environment(home):
    return {
        **os.environ,
        "NBAAS_HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "IPYTHONDIR": str(home / "ipython"),
    }


def test_a_plain_terminal_shows_prints_and_one_line(tmp_path):
    script = tmp_path / "session.ipy"
    cell = SETUP + "\nget_ipython().run_cell_magic('train', '--ranks 1 --name term', " + repr(LOOP)
    script.write_text("%load_ext nbaas\n" + cell + ")\nprint('left', len(losses))\n")
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", str(script)],
        env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True, timeout=120,
        check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if line[:2] in ("0 ", "1 ", "2 ")] == ["0", "1", "2"]
    assert "left 3" in lines
    assert "term: succeeded on 1 rank on the CPU (serial), 3 epochs" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_nbclient_leaves_a_notebook_that_opens_without_a_kernel(tmp_path):
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    cells = ["%load_ext nbaas", SETUP, "%%train --ranks 1 --name saved" + LOOP,
             "%%train --ranks 1\nraise ValueError('eleven')", "print('not reached')"]  # fmt: skip
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, timeout=120, kernel_name="python3")
    with pytest.raises(CellExecutionError, match="ValueError"):
        client.execute(env=environment(tmp_path))
    saved = notebook.cells[2].outputs
    kinds = [set(output.get("data", {})) for output in saved if output.output_type != "stream"]
    assert any({"image/png", "text/plain"} <= kind for kind in kinds)
    assert not any(WIDGET in kind for kind in kinds)
    assert "".join(o.text for o in saved if o.output_type == "stream").count("\n") == 3
    assert notebook.cells[4].outputs == []
    # The panel's program is not stored in the file with the state of widgets.
    assert len(json.dumps(notebook)) < 200_000


def test_papermill_fills_in_parameters_and_stops_at_an_error(tmp_path, monkeypatch):
    papermill = pytest.importorskip("papermill")
    import nbformat

    sources = ["ranks = 4", "%load_ext nbaas", "%%train --ranks $ranks --name milled\nx = 7",
               "print('x is', x)", "%%train --ranks 1\nraise ValueError('eleven')",
               "print('no')"]  # fmt: skip
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    notebook.cells[0].metadata["tags"] = ["parameters"]
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "p", "language": "python"}
    nbformat.write(notebook, tmp_path / "in.ipynb")
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "out.ipynb"
    with pytest.raises(papermill.PapermillExecutionError, match="ValueError: eleven"):
        papermill.execute_notebook(
            tmp_path / "in.ipynb", out, parameters={"ranks": 1}, progress_bar=False
        )
    cells = [cell for cell in nbformat.read(out, 4).cells if cell.cell_type == "code"]
    printed = "".join(o.text for c in cells for o in c.outputs if o.output_type == "stream")
    assert "x is 7" in printed
    assert "no" not in printed.split()
    assert "milled: succeeded on 1 rank" in json.dumps([c.outputs for c in cells])


def test_a_front_end_without_widgets_sees_a_line_that_moves_and_then_the_figure(tmp_path):
    with Notebook(tmp_path) as notebook:
        notebook.run("%load_ext nbaas\n" + SETUP)
        lines: list[str] = []
        widgets: list[bool] = []

        def look(cell: Cell) -> None:
            # What such a front end shows of an output: the richest kind that it knows.
            shown = [output.get("text/plain", "") for output in cell.outputs]
            widgets.extend(WIDGET in output for output in cell.outputs)
            lines.extend(text for text in shown if text and text not in lines)

        slow = LOOP.replace("total += ", "time.sleep(0.2); total += ")
        cell = notebook.run("%%train --ranks 1 --name plain" + slow, during=look)
    assert not cell.error, cell.error
    running = [line for line in lines if line.startswith("plain: running")]
    # One display, updated in place by its id: many lines in turn, one left.
    assert len(running) > 1, lines
    assert "loss" in running[-1]
    assert any(widgets), "a front end with widgets is offered one"
    assert not any(WIDGET in output for output in cell.outputs)
    texts = [output["text/plain"] for output in cell.outputs if "image/png" not in output]
    assert [text.partition(" on ")[0] for text in texts if text] == ["plain: succeeded"]
    assert any("image/png" in output for output in cell.outputs)
    assert any("text/html" in output for output in cell.outputs)
