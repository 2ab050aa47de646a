"""A batch that only fits when it is split is trained all the same: the probe asks with a few rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parallel.harness import Harness
from tests.parallel.sources import Case

CELL = """import torch
from torch.utils.data import DataLoader, TensorDataset

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, x):
        if len(x) > 8:
            raise torch.OutOfMemoryError("no room for more than 8 rows")
        return self.layer(x)

torch.manual_seed(0)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in DataLoader(TensorDataset(torch.randn(48, 3), torch.randn(48, 1)), batch_size=16):
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
    print(loss.item())
"""


@pytest.mark.ranks
def test_a_batch_that_fits_only_in_parts_is_split(harness: Harness, tmp_path: Path):
    case = Case(name="c", group="g", path=tmp_path / "c.py", phases={"train": CELL}, pattern="")
    run = harness.on_ranks(case, 2)
    assert not run.failure, run.failure
    assert run.facts["split_modules"] == ["Net"]
    assert run.facts["self_check"] == "not compared: the whole batch does not fit on one device"
