# A model that returns a dataclass, and one with a property on it
from dataclasses import dataclass
from typing import Optional

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class Output:
    mean: torch.Tensor
    log_var: torch.Tensor
    extra: Optional[dict] = None

    @property
    def std(self):
        return (0.5 * self.log_var).exp()


class Gaussian(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 12), nn.Tanh(), nn.Linear(12, 2))

    def forward(self, x):
        mean, log_var = self.net(x).chunk(2, dim=1)
        return Output(mean.squeeze(1), log_var.squeeze(1), {"n": x.shape[0]})


torch.manual_seed(2)
X = torch.randn(47, 3)
Y = X.sum(1) + 0.1 * torch.randn(47)
loader = DataLoader(TensorDataset(X, Y), batch_size=10, shuffle=True)
model = Gaussian()
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(2):
    for x, y in loader:
        out = model(x)
        nll = 0.5 * (out.log_var + (y - out.mean) ** 2 / out.std**2).mean()
        opt.zero_grad()
        nll.backward()
        opt.step()
    print(f"{nll.item():.6f} std {out.std.mean().item():.6f}")
