# output sizes and branches that depend on values of the batch; the first batch does not show it
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Keep(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(x[x[:, 0] > 0])


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x):
        if x[:, 0].min() > 0:
            return self.a(x)
        return self.b(x)


class Longest(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(1, 2)

    def forward(self, x):
        n = int((x > 0).sum(1).max())
        return self.out(x[:, :n].mean(1, keepdim=True)) * n


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        big = x.abs().max().item()
        return self.out(x / (big if big > 9 else 1.0))


torch.manual_seed(0)
X = torch.randn(32, 4)
X[:8] = X[:8].abs()
X[10, 1] = 12.0
for kind in (Keep, Branch, Longest, Scale):
    model = kind()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    for (x,) in DataLoader(TensorDataset(X), batch_size=8):
        out = model(x)
        loss = out.pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(kind.__name__, tuple(out.shape), f"{loss.item():.6f}")
