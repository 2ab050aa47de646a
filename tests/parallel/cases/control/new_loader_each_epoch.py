# A growing batch size: a new loader each epoch, a fraction of the data by Subset
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

torch.manual_seed(0)
X = torch.randn(60, 4)
ds = TensorDataset(X, X.pow(2).sum(1, keepdim=True))
model = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 1))
opt = torch.optim.SGD(model.parameters(), lr=0.02)
steps = []
for epoch in range(4):
    part = Subset(ds, torch.randperm(len(ds))[: 20 + 10 * epoch].tolist())
    loader = DataLoader(part, batch_size=5 * 2**epoch, shuffle=epoch % 2 == 0)
    for x, y in loader:
        loss = nn.functional.mse_loss(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    steps.append(len(loader))
    print(epoch, loader.batch_size, len(loader), f"{loss.item():.6f}")
