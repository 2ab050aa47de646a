"""`--batch per-rank`: a loader's batch size counts the batch of each rank, as in plain Horovod."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parallel.harness import Harness
from tests.parallel.sources import Case

CELL = """import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.arange(60.0).view(30, 2))
torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(50, 3), torch.randn(50)), batch_size={size}, shuffle=True)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in loader:
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(x).squeeze(1), y)
    loss.backward()
    optimizer.step()
    print(len(loader), len(x), loss.item())
print([len(batch) for batch in DataLoader(Stream(), batch_size={size})])
"""


@pytest.mark.ranks
def test_two_ranks_of_six_are_one_device_of_twelve(tmp_path: Path):
    harness = Harness(batch="per-rank")
    try:
        plain = harness.plain(made(tmp_path, 12))
        ranks = harness.on_ranks(made(tmp_path, 6), 2)
    finally:
        harness.close()
    assert not ranks.failure, ranks.failure
    assert [line.split()[:2] for line in ranks.text.splitlines()] == [
        line.split()[:2] for line in plain.text.splitlines()
    ]
    losses = [
        [float(line.split()[2]) for line in run.text.splitlines()[:5]] for run in (plain, ranks)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def made(folder: Path, size: int) -> Case:
    source = CELL.format(size=size)
    path = folder / f"cell-{size}.py"
    return Case(name="cell", group="made", path=path, phases={"train": source}, pattern="")
