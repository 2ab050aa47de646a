# Branches on the batch: any, all, sum, max, unique, a boolean mask of rows
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ds = TensorDataset(torch.randn(57, 4), torch.randint(0, 5, (57,)))
model = nn.Linear(4, 5)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in DataLoader(ds, batch_size=9, shuffle=True):
    if (y == 4).any() and y.sum() % 2 == 0:
        keep = y != 4
        x, y = x[keep], y[keep]
    out = model(x)
    loss = nn.functional.cross_entropy(out, y)
    if x.abs().max() > 2.5:
        loss = loss * 0.5
    opt.zero_grad()
    loss.backward()
    opt.step()
    values, counts = torch.unique(y, return_counts=True)
    print(len(y), values.tolist(), counts.tolist(), f"{loss.item():.6f}")
