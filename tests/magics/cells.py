"""Cells that the tests run: a small problem, an ordinary loop over it."""

from __future__ import annotations

SETUP = """
import os, time, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(3)
inputs = torch.randn(150, 6)
targets = (inputs.sum(dim=1) > 0).long()
train_loader = DataLoader(TensorDataset(inputs[:101], targets[:101]), batch_size=16, shuffle=True)
test_loader = DataLoader(TensorDataset(inputs[101:], targets[101:]), batch_size=20)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    def forward(self, x):
        return self.layers(x)

@torch.no_grad()
def accuracy(model):
    return sum((model(x).argmax(1) == y).sum().item() for x, y in test_loader) / len(test_loader.dataset)

model = Net()
alias = model
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
losses = history = []
untouched = {"a": [1, 2]}
torch.manual_seed(11)
"""

# 101 samples in batches of 16: the last batch has 5, which neither 2 nor 3 ranks divide.
LOOP = """
for epoch in range(3):
    total = 0.0
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(x)
    losses.append(total / len(train_loader.dataset))
    best = min(losses)
    print(epoch, repr(losses[-1]), repr(accuracy(model)), flush=True)
"""

ENDLESS = """
for epoch in range(100000):
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        time.sleep(0.01)
    losses.append(loss.item())
    print("epoch", epoch, flush=True)
"""
