# torch.autograd.grad and a manual update; MAML-like inner step
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(30, 3), torch.randn(30, 1)), batch_size=8)
w = torch.randn(3, 1, requires_grad=True)
b = torch.zeros(1, requires_grad=True)
for x, y in loader:
    loss = ((x @ w + b - y) ** 2).mean()
    gw, gb = torch.autograd.grad(loss, [w, b])
    with torch.no_grad():
        w -= 0.1 * gw
        b -= 0.1 * gb
    print(f"{loss.item():.6f} {gw.norm().item():.6f}")
inner = nn.Linear(3, 1)
outer = torch.optim.SGD(inner.parameters(), lr=0.1)
for x, y in loader:
    loss = nn.functional.mse_loss(inner(x), y)
    grads = torch.autograd.grad(loss, inner.parameters(), create_graph=True)
    fast = [p - 0.05 * g for p, g in zip(inner.parameters(), grads)]
    meta = nn.functional.mse_loss(nn.functional.linear(x, *fast), y)
    outer.zero_grad()
    meta.backward()
    outer.step()
    print(f"{loss.item():.6f} {meta.item():.6f}")
