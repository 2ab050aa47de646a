# Two backward passes through one graph
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.05)
for x, y in DataLoader(TensorDataset(torch.randn(26, 4), torch.randn(26, 2)), batch_size=6):
    out = net(x)
    first = nn.functional.mse_loss(out[:, 0], y[:, 0])
    second = nn.functional.l1_loss(out[:, 1], y[:, 1])
    opt.zero_grad()
    first.backward(retain_graph=True)
    norm1 = net[0].weight.grad.norm().item()
    second.backward()
    norm2 = net[0].weight.grad.norm().item()
    opt.step()
    print(f"{first.item():.6f} {second.item():.6f} {norm1:.6f} {norm2:.6f}")
