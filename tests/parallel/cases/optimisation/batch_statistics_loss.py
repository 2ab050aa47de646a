# Losses that use the batch's own mean and variance: R2, correlation, VICReg
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ds = TensorDataset(torch.randn(41, 5), torch.randn(41))
net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
opt = torch.optim.SGD(net.parameters(), lr=0.05)
for epoch in range(2):
    for x, y in DataLoader(ds, batch_size=9, shuffle=True):
        z = net(x)
        p = z[:, 0]
        r2 = 1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum()
        vx, vy = p - p.mean(), y - y.mean()
        corr = (vx * vy).sum() / (vx.pow(2).sum().sqrt() * vy.pow(2).sum().sqrt())
        std = torch.sqrt(z.var(dim=0) + 1e-4)
        zc = z - z.mean(dim=0)
        cov = (zc.T @ zc) / (len(z) - 1)
        loss = -r2 - corr + torch.relu(1 - std).mean() + cov.fill_diagonal_(0).pow(2).sum() / 3
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(f"{r2.item():.6f} {corr.item():.6f} {std.mean().item():.6f} {loss.item():.6f}")
