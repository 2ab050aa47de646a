"""Endpoints from the notebook: traffic shares and tokens, by magics in a real kernel."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.ranks


@pytest.fixture(scope="module")
def served(notebook):
    """The notebook with two models; the first one is served as `split`."""
    cell = notebook.run("""
import torch
from torch import nn
torch.manual_seed(0)
first, second, x = nn.Linear(3, 2), nn.Linear(3, 2), torch.ones(2, 3)
%deploy first --name split --example x
""")
    assert cell.error == "", cell.error
    yield notebook
    notebook.run("from nbaas.deploy.hosting import stop_host\n"
                 "from nbaas.config import load_settings\nstop_host(load_settings())")  # fmt: skip


def test_a_canary_from_its_deployment_to_its_promotion(served):
    made = served.run("%deploy second --name split --example x --canary 10 --limit 5")
    assert made.error == "", made.error
    assert (
        "split version 2 gets 10 % of the requests, withdrawn at over 5 % of errors" in made.texts()
    )
    shown = served.run("%canary split").stdout
    assert "version 1 gets 90 % of the requests" in shown
    assert "canary 2 gets 10 %, withdrawn at over 5 % of errors: no request yet" in shown
    assert "canary 2 gets 50 %" in served.run("%canary split 50").stdout
    assert "1, canary 2 50 %" in served.run("%endpoints").texts()
    assert "split: version 2 gets all requests" in served.run("%canary split --promote").stdout
    assert "split serves version 1 again" in served.run("%rollback split").stdout
    assert "canary 2 gets 20 %" in served.run("%canary split 20 --version 2").stdout
    assert "canary 2 of split is withdrawn" in served.run("%rollback split").stdout


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("%canary", "%canary needs the name of an endpoint"),
        ("%canary split 120", "120 is no share"),
        ("%canary split 20 --promote", "one of a percentage, --promote and --abort"),
        ("%canary split --limit 3", "which share?"),
        ("%canary split 30", "split has no canary"),
        ("%canary nowhere 30", "there is no endpoint 'nowhere'"),
        ("%deploy second --name split --example x --canary 120", "canary 120 is no share"),
        ("%deploy second --name new --example x --canary 10", "there is no endpoint 'new'"),
    ],
)
def test_a_wrong_share_is_one_line(served, line, reason):
    cell = served.run(line)
    assert reason in cell.error
    assert len(cell.lines) == 1
