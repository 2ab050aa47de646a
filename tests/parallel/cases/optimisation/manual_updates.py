# Parameters updated by hand from .grad under no_grad, gradients zeroed by hand
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(41, 4), torch.randn(41, 2)), batch_size=9, shuffle=True)
model = nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 2))
lr, momentum = 0.05, 0.9
velocity = [torch.zeros_like(p) for p in model.parameters()]
for epoch in range(2):
    for x, y in loader:
        loss = nn.MSELoss()(model(x), y)
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p, v in zip(model.parameters(), velocity):
                v.mul_(momentum).add_(p.grad)
                p -= lr * v
    print(epoch, f"{loss.item():.6f}")
for p in model.parameters():
    p.data.sub_(0.01 * p.grad.data)
