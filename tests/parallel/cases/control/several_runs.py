# Several runs in one cell: a sweep over learning rates, results in a dict
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X = torch.randn(48, 4)
ds = TensorDataset(X, X.sum(1, keepdim=True))


def build():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))


results = {}
for lr in (0.01, 0.05, 0.1):
    for bs in (5, 48):
        model = build()
        opt = torch.optim.SGD(model.parameters(), lr=lr)
        for epoch in range(2):
            for x, y in DataLoader(ds, batch_size=bs, shuffle=True):
                loss = nn.functional.mse_loss(model(x), y)
                opt.zero_grad()
                loss.backward()
                opt.step()
        results[lr, bs] = loss.item()
best = min(results, key=results.get)
print(best, f"{results[best]:.6f}")
