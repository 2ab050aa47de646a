"""What a notebook does: start two real ranks in the background that save each step, and leave."""

from __future__ import annotations

import sys

from IPython.core.interactiveshell import InteractiveShell

PREPARE = """
import time, torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(512, 8)
y = (x[:, 0] > 0).long()
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 64, shuffle=True)
model = nn.Linear(8, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
TRAIN = """%%train --ranks 2 --engine ddp --background --checkpoint-every 1 --name thirds
for epoch in range(4):
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(xb), yb)
        loss.backward()
        optimizer.step()
        time.sleep(0.4)
    print("epoch", epoch, "done", flush=True)
"""


def main() -> None:
    shell = InteractiveShell.instance()
    for cell in ("%load_ext nbaas", PREPARE, TRAIN):
        if not shell.run_cell(cell, store_history=True).success:
            sys.exit(1)


main()
