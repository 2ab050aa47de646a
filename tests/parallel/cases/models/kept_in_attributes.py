# the forward keeps things in self: a KL term, features, a list of auxiliary losses
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)
        self.aux = []
        self.calls = 0
        self.feats = None

    def forward(self, x):
        h = torch.tanh(self.a(x))
        self.feats = h
        self.kl = (h ** 2).mean()
        self.aux.append(h.abs().sum())
        self.calls += 1
        return self.b(h)


torch.manual_seed(0)
ds = TensorDataset(torch.randn(29, 5), torch.randint(0, 3, (29,)))
model = Net()
opt = torch.optim.SGD(model.parameters(), lr=0.1)
kept = []
for x, y in DataLoader(ds, batch_size=8):
    out = model(x)
    loss = F.cross_entropy(out, y) + 0.5 * model.kl + 0.01 * model.aux[-1] + model.feats[:, 0].pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    kept.append(model.feats.detach())
    print(f"{loss.item():.6f} {model.kl.item():.6f}", model.feats.shape, len(model.aux), model.calls)
    model.aux.clear()
print(torch.cat(kept).shape, torch.cat(kept).sum().item())
