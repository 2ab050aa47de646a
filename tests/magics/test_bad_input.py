"""A mistake is one clear line that names the value and the way out; nothing starts, nothing is lost."""

from __future__ import annotations

import re

import pytest
from kernel_notebook import ROOT, Notebook

MISTAKES = [
    ("%%train --rank 2\nx = 1", "UsageError", ["--rank is no flag of %%train", "--ranks?"]),
    ("%%train --ranks two\nx = 1", "UsageError", ["--ranks: 'two' is not a whole number"]),
    ("%%train --ranks 0\nx = 1", "UsageError", ["--ranks 0: must be 1 or more"]),
    ("%%train --ranks -3\nx = 1", "UsageError", ["--ranks"]),
    ("%%train --ranks $n\nx = 1", "UsageError", ["$n: 'n' is not defined in the notebook"]),
    ("%%train --gpus 4 --ranks 4\nx = 1", "UsageError", ["--gpus 4 and --ranks 4 together"]),
    ("%%train --engine horovd\nx = 1", "UsageError", ["--engine: invalid choice: 'horovd'"]),
    ("%%train --hosts a;id\nx = 1", "UsageError", ["'a;id' is no host", "hosts are written"]),
    ("%%train --cluster lab\nx = 1", "UsageError", ["no cluster of this name", "config.toml"]),
    ("%%train --name 'My Job'\nx = 1", "UsageError", ["'My Job': not a name for a job"]),
    ("%%train --out 1a\nx = 1", "UsageError", ["--out '1a' is not a name for a variable"]),
    ("%%train --ranks 1\n# nothing\n\n", "CaptureError", ["the cell under %%train is empty"]),
    ("%%train --ranks 1\nprint(holder.items[0])", "CaptureError", ["holder.items[0]"]),
    ("%%train --ranks 1\nanswer = input('?')", "CaptureError", ["input"]),
    ("%train", "UsageError", ["%train needs a function"]),
    ("%train nothing_such", "UsageError", ["'nothing_such' is not defined in the notebook"]),
    ("%train number", "UsageError", ["number is a int, not a function"]),
    ("%logs nothing-such", "JobNotFoundError", ["no job called 'nothing-such'"]),
    ("%stop", "UsageError", ["%stop needs the name of a job"]),
    ("%attach nothing-such", "JobNotFoundError", ["no job called 'nothing-such'"]),
    ("%deploy", "UsageError", ["%deploy needs a module"]),
    ("%deploy number --name digits", "DeployError", ["an int cannot be deployed"]),
    ("%deploy nothing_such --name digits", "UsageError", ["'nothing_such' is not defined"]),
    ("%predict digits", "UsageError", ["%predict needs an endpoint and an input"]),
    ("%predict digits [[1.0]]", "EndpointNotFoundError", ["no endpoint 'digits'"]),
    ("%undeploy", "UsageError", ["%undeploy needs the name of an endpoint"]),
    ("import nbaas\nnbaas.train(number, ranks=1)", "UsageError", ["is not a function"]),
]


@pytest.fixture(scope="module")
def ready(notebook: Notebook) -> Notebook:
    notebook.run(
        "import threading\nnumber = 3\nclass Holder:\n    def __init__(self):\n"
        "        self.items = [threading.Lock()]\nholder = Holder()"
    )
    return notebook


@pytest.mark.parametrize(("code", "kind", "said"), MISTAKES, ids=[code for code, *_ in MISTAKES])
def test_a_mistake_is_one_line_with_the_way_out(ready, code, kind, said):
    cell = ready.run(code)
    assert cell.error_name == kind, cell.error
    assert len(cell.lines) == 1, cell.error
    for words in said:
        assert words in cell.error
    assert "Traceback" not in cell.error + cell.stderr
    assert not cell.outputs
    assert ready.run("%jobs").texts().startswith("no jobs yet")


def test_gpus_that_are_not_here_are_named_with_what_is(ready):
    cell = ready.run("%%train --gpus 64\nx = 1")
    assert cell.error_name == "PlacementError"
    assert len(cell.lines) == 1
    assert "--gpus 64" in cell.error
    assert "cores" in cell.error or "most this host has" in cell.error


def test_a_missing_engine_says_how_to_build_it(tmp_path):
    # A Horovod without what says how it was built hides the one that may be installed.
    (tmp_path / "hidden" / "horovod").mkdir(parents=True)
    (tmp_path / "hidden" / "horovod" / "__init__.py").touch()
    path = f"{tmp_path / 'hidden'}:{ROOT}"
    with Notebook(tmp_path / "home", PYTHONPATH=path) as notebook:
        notebook.run("%load_ext nbaas")
        cell = notebook.run("%%train --ranks 2 --engine horovod\nx = 1")
    assert cell.error_name == "EngineMissingError", cell.error
    assert len(cell.lines) == 1
    assert "nbaas engine build" in cell.error
    assert "--engine ddp" in cell.error


def test_a_syntax_error_is_the_users_own(ready):
    cell = ready.run("%%train --ranks 1\nx = 1\nfor y in range(3)\n    pass")
    assert cell.error_name == "SyntaxError"
    assert "for y in range(3)" in cell.error
    assert "run_cell_magic" not in cell.error
    assert re.search(rf"In\[{cell.number}\].*3", cell.error), cell.error


def test_help_prints_the_flags_and_runs_nothing(ready):
    for line in ("%%train --help\nx = 1", "%train --help", "%jobs -h", "%deploy --help"):
        cell = ready.run(line)
        assert not cell.error, cell.error
        assert cell.stdout.startswith("usage: ")
    assert "--ranks N" in ready.run("%%train --help\n1").stdout
    assert "--ranks N" in ready.run("%%train?").payload[0]["data"]["text/plain"]


def test_tab_completes_flags_values_and_names(ready):
    assert ready.complete("%%train --ra") == ["--ranks"]
    assert "horovod" in ready.complete("%%train --engine ")
    assert "number" in ready.complete("%%train --exclude nu")
    assert "--example" in ready.complete("%deploy --ex")


def test_loading_is_silent_and_may_be_repeated(ready):
    assert "already loaded" in ready.run("%load_ext nbaas").stdout  # IPython's own word
    for _ in range(2):
        cell = ready.run("%reload_ext nbaas")
        assert (cell.stdout, cell.stderr, cell.error, cell.outputs) == ("", "", "", [])
    assert ready.run("%train --help").stdout
    assert not ready.run("%unload_ext nbaas").stderr
    assert "not found" in ready.run("%jobs").stderr
    assert "--ranks" not in ready.complete("%%train --ra")
    assert ready.value("number") == 3
    ready.run("%load_ext nbaas")
    assert not ready.run("%jobs").error


def test_a_default_of_the_notebook_is_used_where_the_line_gives_none(ready):
    ready.run("%config NbaasMagics.ranks = 0")
    cell = ready.run("%%train\nx = 1")
    ready.run("%config NbaasMagics.ranks = None")
    assert "--ranks 0" in cell.error
