# A rank whose rows are all ignore_index
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
y = torch.full((24,), -100)
y[0::8] = 1
y[1::8] = 0
loader = DataLoader(TensorDataset(torch.randn(24, 3), y), batch_size=8)
model = nn.Linear(3, 2)
opt = torch.optim.SGD(model.parameters(), lr=0.5)
for x, t in loader:
    loss = nn.functional.cross_entropy(model(x), t)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.6f}")
