# Gradient clipping by norm, its return value printed, and by value
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(3 * torch.randn(34, 4), 5 * torch.randn(34, 1)), batch_size=7)
net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for i, (x, y) in enumerate(loader):
    opt.zero_grad()
    loss = nn.functional.mse_loss(net(x), y)
    loss.backward()
    if i % 2:
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), max_norm=0.5)
        print(f"{loss.item():.6f} norm {norm.item():.6f}")
    else:
        torch.nn.utils.clip_grad_value_(net.parameters(), 0.05)
        print(f"{loss.item():.6f} largest {max(p.grad.abs().max().item() for p in net.parameters()):.6f}")
    opt.step()
