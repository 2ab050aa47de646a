# GradScaler without autocast, an infinite loss skips the step on all ranks
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X, Y = torch.randn(36, 3), torch.randn(36, 1)
X[13, 0] = float("inf")
loader = DataLoader(TensorDataset(X, Y), batch_size=8)
net = nn.Linear(3, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.05)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
for x, y in loader:
    opt.zero_grad()
    loss = nn.functional.mse_loss(net(x), y)
    scaler.scale(loss).backward()
    scaler.step(opt)
    scaler.update()
    print(loss.item(), scaler.get_scale(), f"{net.weight.sum().item():.6f}")
