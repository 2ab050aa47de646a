"""What a notebook does with its models, in a real kernel: deploy, ask, explain, read the card, export."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from notebook import Notebook

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
