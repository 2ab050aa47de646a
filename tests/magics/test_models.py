"""What a notebook does with its models, in a real kernel: deploy, ask, explain, read the card, export."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kernel_notebook import Notebook

pytestmark = pytest.mark.ranks

MODEL = """
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)
    def forward(self, x):
        return self.fc(x)
model = Net()
x = torch.rand(3, 64)
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """A kernel in which an endpoint called digits answers."""
    with Notebook(tmp_path_factory.mktemp("models")) as started:
        assert not started.run("%load_ext nbaas\n" + MODEL).error
        deployed = started.run("%deploy model --name digits --example x")
        assert not deployed.error, deployed.error
        yield started
        started.run("from nbaas.deploy.hosting import stop_host\n"
                    "from nbaas.config import load_settings\nstop_host(load_settings())")  # fmt: skip


def test_an_explanation_is_a_figure_with_text_and_its_arrays(served):
    pytest.importorskip("captum")
    cell = served.run("why = %explain digits x[:2] --image 8x8\nwhy")
    assert not cell.error, cell.error
    [output] = cell.outputs
    assert set(output) == {"image/png", "text/plain"}
    assert "digits version 1, integrated-gradients\n  row 0: target" in output["text/plain"]
    told = served.run(
        "import nbaas\nprint(why.parts.shape, nbaas.explain('digits', x[0]).parts.shape)"
    )
    assert told.stdout == "(2, 64) (1, 64)\n", told.error


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%explain digits", "needs an endpoint and an input"),
        ("%explain nothing x", "no endpoint 'nothing'"),
        ("%explain digits x[:, :3]", "expected FP32 [-1,64], got FP32 [3,3]"),
        ("%explain digits x --image 7x7", "rows of [64] are no images of 7x7"),
        ("%explain digits x --method shap", "invalid choice: 'shap'"),
        ("%explain digits x --target 10", "there is no target 10 (0 to 9)"),
    ],
)
def test_a_line_that_cannot_be_explained_is_one_sentence(served, line, said):
    cell = served.run(line)
    assert said in cell.error
    assert len(cell.lines) == 1


TRAIN = """%%train --ranks 2 --engine ddp --name fit
for epoch in range(2):
    for a, b in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(a), b)
        loss.backward()
        optimizer.step()
"""


def test_the_card_links_the_version_to_the_job_that_trained_it(served):
    prepared = served.run("""
from torch.utils.data import DataLoader, TensorDataset
loader = DataLoader(TensorDataset(torch.rand(64, 64), torch.randint(0, 10, (64,))), 16)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
""")
    assert not prepared.error
    trained = served.run(TRAIN)
    assert not trained.error, trained.error
    cell = served.run("""
%deploy model --name fitted --example x --note "for <b>tests</b>"
card = %endpoints fitted --card
card""")
    assert not cell.error, cell.error
    card = cell.outputs[-1]
    assert {"text/html", "text/markdown", "text/plain"} <= set(card)
    text = card["text/plain"]
    for told in ("fit (", "SUCCEEDED", "2 ranks", "8 in 2 epochs", "loss", "loader", "DataLoader",
                 "time of ranks", "training code", "for <b>tests</b>", "FP32"):  # fmt: skip
        assert told in text, told
    assert "changed in the notebook" not in text
    assert "<b>" not in card["text/html"]
    shell = served.run("import sys\n!{sys.executable} -m nbaas.cli endpoints fitted --card")
    assert "## fitted, version 1" in shell.stdout, shell.error
    again = served.run("""
optimizer.zero_grad(); model(x).sum().backward(); optimizer.step()
_ = %deploy model --name fitted --example x
print(get_ipython().run_line_magic("endpoints", "fitted --card"))""")
    assert "changed in the notebook after this job" in again.stdout, again.error


def test_a_job_that_made_no_step_does_not_become_the_one_that_trained_the_model(served):
    cell = served.run("""
from torch.utils.data import DataLoader, TensorDataset
loader = DataLoader(TensorDataset(torch.rand(64, 64), torch.randint(0, 10, (64,))), 16)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
""")
    assert not cell.error, cell.error
    assert not served.run(TRAIN).error
    failed = served.run("""%%train --ranks 2 --engine ddp --name no-step
for x, y in loader:
    model.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    [][len(x)]
""")
    assert failed.error_name == "IndexError"
    assert served.value("model.fc.weight.grad is not None")  # it did return the module
    card = served.run("""
_ = %deploy model --name kept --example x[:1]
print(get_ipython().run_line_magic("endpoints", "kept --card"))""")
    assert "fit (" in card.stdout, card.error
    assert "no-step" not in card.stdout
    assert "changed in the notebook" not in card.stdout


def test_a_file_of_rows_is_answered_with_progress(served):
    cell = served.run("""
import numpy as np
rows = np.random.default_rng(0).normal(size=(600, 64)).astype("f4")
np.savetxt("rows.csv", rows, delimiter=",")
done = %predict digits rows.csv --to answers.csv
print(done)""")
    assert not cell.error, cell.error
    assert "600 answers in answers.csv" in cell.stdout
    assert "rows.csv to digits: 600 of 600 rows" in cell.outputs[0]["text/plain"]
    check = served.run("""
with open("answers.csv") as file:
    header = file.readline().strip()
answers = np.loadtxt("answers.csv", delimiter=",", skiprows=1)
again = %predict digits rows[:5]
print(header.split(",")[:2], answers.shape, np.abs(answers[:5] - again).max() < 1e-6)""")
    assert check.stdout == "['output_0', 'output_1'] (600, 10) True\n", check.error
    named = served.run(
        "import pathlib\nnbaas.predict('digits', pathlib.Path('rows.csv')).path.name"
    )
    assert "rows-digits.csv" in named.texts(), named.error


def test_the_items_of_a_model_that_yields_are_printed_as_they_come(served):
    cell = served.run("""
def halves(x):
    for _ in range(3):
        x = model(torch.cat([x] * 6 + [x[:, :4]], 1)) / 2
        yield x.sum(1)
told = %deploy halves --name halves --example torch.rand(1,10)
print(told)
given = torch.rand(1, 10)
%predict --stream halves given""")
    assert not cell.error, cell.error
    assert "%predict --stream halves x    nbaas.predict('halves', x, stream=True)" in cell.stdout
    assert "curl -N" in cell.stdout
    assert "/predict/halves/stream" in cell.stdout
    assert len([line for line in cell.stdout.splitlines() if line.startswith("[")]) == 3
    check = served.run("""
import nbaas
items = nbaas.predict("halves", given, stream=True)
first = next(items)
rest = list(items)
right = [y.detach().numpy() for y in halves(given)]
worst = max(abs(float((a - b)[0]) / (1 + abs(float(b[0])))) for a, b in zip([first, *rest], right))
print(len(rest), worst < 1e-5, worst)""")
    assert check.stdout.startswith("2 True"), (check.stdout, check.error)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%predict --stream digits x", "digits does not yield, it answers at once"),
        ("%endpoints nothing --card", "no endpoint 'nothing'"),
        ("%endpoints --card", "a card needs an endpoint"),
        ("%endpoints digits --card --version 9", "digits has no version 9"),
        ("%predict digits missing.csv", "missing.csv cannot be read"),
        ("%predict digits x --to a.csv", "--to is for files"),
        ("%deploy model --name digits --example x --pre 3", "--pre is a int, not a function"),
        ("%deploy model --name digits --engine tensorrt", "invalid choice: 'tensorrt'"),
    ],
)
def test_a_line_about_a_model_that_does_not_fit_is_one_sentence(served, line, said):
    cell = served.run(line)
    assert said in cell.error
    assert len(cell.lines) == 1
