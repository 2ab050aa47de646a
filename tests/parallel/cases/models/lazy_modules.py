# Lazy layers that learn their shape from the first batch
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(23, 1, 6, 6), torch.randint(0, 3, (23,))), batch_size=6)
net = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
net(torch.rand(1, 1, 6, 6))
opt = torch.optim.SGD(net.parameters(), lr=0.05)
for x, y in loader:
    loss = nn.functional.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.6f}")
