"""An ordinary loop gathers nothing: slower is allowed only where no rule is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parallel.harness import Harness
from tests.parallel.sources import Case

CELL = """import torch
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(22, 3), torch.randint(0, 2, (22,))), batch_size=5)
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.3), torch.nn.Linear(4, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in loader:
    optimizer.zero_grad()
    loss = {loss}
    loss.backward()
    optimizer.step()
    print(loss.item(), (model(x).argmax(1) == y).sum().item())
"""
LOSSES = (
    "torch.nn.CrossEntropyLoss()(model(x), y)",
    "torch.nn.functional.nll_loss(model(x).log_softmax(1), y)",
    "torch.nn.functional.mse_loss(model(x)[:, 0], y.float())",
)


@pytest.mark.ranks
@pytest.mark.parametrize("loss", LOSSES)
def test_an_ordinary_loop_gathers_nothing(harness: Harness, tmp_path: Path, loss: str):
    source = CELL.format(loss=loss)
    path = tmp_path / "cell.py"
    case = Case(name="cell", group="made", path=path, phases={"train": source}, pattern="")
    verdict = harness.verdict(case, 2)
    assert verdict.word == "same", verdict.why
    assert verdict.facts["gathered"] == {}
