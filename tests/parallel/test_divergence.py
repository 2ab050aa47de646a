"""Ranks that take different branches end within seconds, both places named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parallel.harness import Harness
from tests.parallel.sources import Case

CELL = """import torch
from torch.utils.data import DataLoader, TensorDataset
from nbaas.parallel.world import active
rank = getattr(active(), "rank", None)
loader = DataLoader(TensorDataset(torch.randn(20, 3), torch.randn(20, 1)), batch_size=5)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in loader:
    loss = ((model(x) - y) ** 2).mean()
    if rank == 1:
        {branch}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print("end")
"""


@pytest.mark.ranks
@pytest.mark.parametrize("branch", ["print(loss.item())", "break"])
def test_another_branch_on_one_rank_is_named_with_both_places(
    harness: Harness, tmp_path: Path, branch: str
):
    path = tmp_path / "cell.py"
    source = CELL.format(branch=branch)
    case = Case(name="cell", group="made", path=path, phases={"train": source}, pattern="")
    verdict = harness.verdict(case, 2)
    assert verdict.word in ("failed", "refused")
    assert "the cell took another way on another rank" in verdict.why
