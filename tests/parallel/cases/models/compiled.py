# torch.compile, the eager backend
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(33, 4), torch.randn(33, 1)), batch_size=8)
net = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 1))
model = torch.compile(net, backend="eager")
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(2):
    for x, y in loader:
        loss = nn.functional.mse_loss(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, f"{loss.item():.6f}")
