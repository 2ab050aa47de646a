"""What a notebook does: train on two real ranks, deploy what came back.  Run in a process of its own."""

from __future__ import annotations

import sys

from IPython.core.interactiveshell import InteractiveShell

PREPARE = """
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(512, 8)
y = (x[:, 0] + x[:, 1] > 0).long()
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 32, shuffle=True)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
"""
TRAIN = """%%train --ranks 2 --engine ddp --name halves
for epoch in range(4):
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(xb), yb)
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", round(loss.item(), 3))
"""
CELLS = ["%load_ext nbaas", PREPARE, TRAIN, "%deploy model --name halves --example x[:2]"]


def main() -> None:
    shell = InteractiveShell.instance()
    for cell in CELLS:
        if not shell.run_cell(cell, store_history=True).success:
            sys.exit(1)


main()
