# `if loss.item() < eps: break`, `if torch.isnan(loss)`, while loops
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(50, 3)
y = x @ torch.tensor([1.0, -1.0, 2.0]) + 0.5
model = nn.Linear(3, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.2)
steps = 0
loss = torch.tensor(float("inf"))
while loss > 1e-2:
    loss = ((model(x).squeeze(1) - y) ** 2).mean()
    if torch.isnan(loss) or not torch.isfinite(loss).all():
        raise ValueError("diverged")
    opt.zero_grad()
    loss.backward()
    opt.step()
    steps += 1
    if steps > 200:
        break
print(steps, f"{loss.item():.6f}")
