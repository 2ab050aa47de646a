# L1 and L2 penalties added to the loss by hand
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(43, 6), torch.randn(43, 1)), batch_size=10, shuffle=True)
model = nn.Linear(6, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for epoch in range(3):
    for x, y in loader:
        optimizer.zero_grad()
        mse = nn.functional.mse_loss(model(x), y)
        l1 = sum(p.abs().sum() for p in model.parameters())
        l2 = torch.stack([p.pow(2).sum() for p in model.parameters()]).sum()
        loss = mse + 0.01 * l1 + 0.02 * l2
        loss.backward()
        optimizer.step()
    print(f"mse {mse.item():.6f} l1 {l1.item():.6f} total {loss.item():.6f}")
