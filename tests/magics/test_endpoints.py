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


def test_a_token_is_made_shown_once_listed_and_revoked(served):
    made = served.run("%tokens split --create ann --expires 30d --rate 10").stdout.split()
    value, identity = made[0], made[made.index("once:") + 1]
    listed = served.run("%tokens split").texts()
    assert identity in listed
    assert "ann" in listed
    assert "10/s" in listed
    assert value not in listed
    assert "is worthless now" in served.run(f"%tokens split --revoke {identity}").stdout
    assert identity not in served.run("%tokens split").texts()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("%tokens", "%tokens needs the name of an endpoint"),
        ("%tokens nowhere", "there is no endpoint 'nowhere'"),
        ("%tokens split --expires 30d", "--expires and --rate are for a new token"),
        ("%tokens split --create a --expires soon", "'soon' is no duration"),
        ("%tokens split --revoke 123", "split has no token '123'"),
        ("%deploy second --name split --example x --replicas 4..2", "replicas 4..2 makes no sense"),
        ("%deploy second --name split --example x --replicas some", "neither a number nor a range"),
        ("%deploy second --name split --example x --idle soon", "'soon' is no duration"),
        ("%deploy second --name split --example x --device gpu", "device 'gpu' makes no sense"),
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
