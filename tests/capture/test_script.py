"""A training cell as a script: what it rests on and no more, and it does the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nbaas.bundle import Cell
from nbaas.capture import export_script
from nbaas.errors import CaptureError


def script_of(notebook, source):
    cell = notebook._add(source)
    return export_script(cell, notebook.history, notebook.namespace).text


def output_of(text, tmp_path):
    path = tmp_path / "train.py"
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr + text
    return done.stdout


def test_the_script_prints_what_the_cell_prints(notebook, tmp_path, capsys):
    notebook.cell("import torch, math\nfrom torch import nn\nimport json")
    notebook.cell("""
        # The network.
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(WIDTH, 1)
            def forward(self, x): return act(self.layer(x))
        WIDTH = 4
        unrelated = "CANARY"
    """)
    notebook.cell("def act(x): return torch.tanh(x) * SCALE\nSCALE = 2.0")
    notebook.cell("""
        torch.manual_seed(0)
        model = Net(); optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        X = torch.randn(16, WIDTH); y = X.sum(1, keepdim=True)
        losses = []
        print("not part of it", model)
    """)
    notebook.cell("losses.append(100.0)\nmodel.layer.bias.data.zero_()")
    loop = """
        for step in range(3):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(X), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print([round(value, 5) for value in losses])
    """
    text = script_of(notebook, loop)
    assert "CANARY" not in text
    assert "import json" not in text
    assert "not part of it" not in text
    assert "# The network.\nclass Net" in text
    said = output_of(text, tmp_path)
    capsys.readouterr()
    notebook.cell(loop)
    assert said == capsys.readouterr().out


def test_only_the_last_of_several_definitions_is_taken(notebook, tmp_path):
    notebook.cell("def f(): return 'old'\nrate = 1")
    notebook.cell("def f(): return 'new'\nrate = 2")
    text = script_of(notebook, "print(f(), rate)")
    assert "old" not in text
    assert output_of(text, tmp_path) == "new 2\n"


def test_a_value_that_no_cell_made_is_written_out_or_named(notebook, tmp_path):
    notebook.namespace["given"] = {"lr": 0.1, "layers": [1, 2]}
    assert (
        output_of(script_of(notebook, "print(given)"), tmp_path)
        == "{'lr': 0.1, 'layers': [1, 2]}\n"
    )
    notebook.namespace["thing"] = object()
    with pytest.raises(CaptureError, match="thing: made by no cell"):
        script_of(notebook, "print(thing)")


def test_what_only_a_notebook_can_do_becomes_plain_python_or_a_comment(tmp_path):
    source = (
        "get_ipython().run_line_magic('matplotlib', 'inline')\nword = 'hello'\n"
        "get_ipython().run_line_magic('time', 'display(3)')\n"
        "for _ in range(1):  # once\n    get_ipython().system('echo {word} >&2')\n"
        "lines = get_ipython().getoutput('printf \"a\\\\nb\"')\nprint(lines)\n"
    )
    script = export_script(Cell(2, source, "cell"), [], {})
    assert "pass  # %matplotlib inline" in script.text
    assert (
        "for _ in range(1):  # once\n    subprocess.run(f'echo {word} >&2', shell=True)"
        in script.text
    )
    assert output_of(script.text, tmp_path) == "3\n['a', 'b']\n"
    with pytest.raises(CaptureError, match="line 2 awaits at the top level"):
        export_script(Cell(2, "x = 1\nawait x\n", "cell"), [], {})


def test_a_run_of_the_same_cell_before_is_not_part_of_it(notebook):
    notebook.cell("total = 0")
    notebook.cell("total += 1\nprint(total)")
    script = export_script(Cell(3, "\ntotal += 1\nprint(total)", "x"), notebook.history, {})
    assert script.text.count("total += 1") == 1
    assert script.cells == (1,)


def test_a_script_that_nothing_seeds_says_so_and_a_seed_is_set_before_the_cell(notebook, tmp_path):
    notebook.cell("import torch")
    cell = Cell(2, "print(torch.rand(1).item())", "x")
    assert "--seed" in export_script(cell, notebook.history, notebook.namespace).notices[0]
    seeded = export_script(cell, notebook.history, notebook.namespace, seed=4)
    assert seeded.notices == ()
    assert output_of(seeded.text, tmp_path) == output_of(seeded.text, tmp_path)


def test_statements_that_share_a_line_are_parted(notebook, tmp_path):
    notebook.cell("a = 1; secret = 'CANARY'; b = a + 1")
    text = script_of(notebook, "print(b)")
    assert "CANARY" not in text
    assert output_of(text, tmp_path) == "2\n"
