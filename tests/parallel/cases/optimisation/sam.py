# Sharpness-aware minimisation: two forward and backward passes a step, weights moved between them
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
base = torch.optim.SGD(model.parameters(), lr=0.1)
rho = 0.05
X = torch.randn(37, 4)
for x, y in DataLoader(TensorDataset(X, X[:, :3].argmax(1)), batch_size=8, shuffle=True):
    loss = nn.functional.cross_entropy(model(x), y)
    base.zero_grad()
    loss.backward()
    grad_norm = torch.norm(torch.stack([p.grad.norm(p=2) for p in model.parameters()]), p=2)
    moved = []
    with torch.no_grad():
        for p in model.parameters():
            e = p.grad * rho / (grad_norm + 1e-12)
            p.add_(e)
            moved.append(e)
    base.zero_grad()
    second = nn.functional.cross_entropy(model(x), y)
    second.backward()
    with torch.no_grad():
        for p, e in zip(model.parameters(), moved):
            p.sub_(e)
    base.step()
    print(f"{loss.item():.6f} {second.item():.6f} {grad_norm.item():.6f}")
