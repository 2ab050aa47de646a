# An exponential moving average of the weights, and a target network
import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X = torch.randn(45, 4)
loader = DataLoader(TensorDataset(X, (X.sum(1) > 0).long()), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
ema = copy.deepcopy(model)
for p in ema.parameters():
    p.requires_grad_(False)
opt = torch.optim.SGD(model.parameters(), lr=0.05)
decay = 0.9
for epoch in range(2):
    for x, y in loader:
        loss = nn.functional.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        with torch.no_grad():
            for e, p in zip(ema.parameters(), model.parameters()):
                e.mul_(decay).add_(p, alpha=1 - decay)
            for e, b in zip(ema.buffers(), model.buffers()):
                e.copy_(b)
    ema.eval()
    acc = sum((ema(x).argmax(1) == y).sum().item() for x, y in loader) / len(X)
    print(f"{epoch} {loss.item():.6f} ema acc {acc:.4f}")
