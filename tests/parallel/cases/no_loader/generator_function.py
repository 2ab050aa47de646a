# A generator function that yields batches
import torch
from torch import nn


def batches(x, y, size, shuffle=True):
    order = torch.randperm(len(x)) if shuffle else torch.arange(len(x))
    for start in range(0, len(x), size):
        pick = order[start : start + size]
        yield x[pick], y[pick]


torch.manual_seed(4)
x = torch.rand(58, 3)
y = (x * torch.tensor([1.0, 2.0, 3.0])).sum(1)
model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0))
opt = torch.optim.SGD(model.parameters(), lr=0.05)
for epoch in range(3):
    total = 0
    for xb, yb in batches(x, y, 9):
        opt.zero_grad()
        loss = nn.functional.mse_loss(model(xb), yb)
        loss.backward()
        opt.step()
        total += loss.item() * len(xb)
    print(epoch, f"{total / len(x):.6f}")
print(sum(len(b) for b, _ in batches(x, y, 9, shuffle=False)))
