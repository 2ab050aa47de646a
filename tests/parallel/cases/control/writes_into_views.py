# writes into views of a batch, into plain tensors from a batch, and backward of several losses
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ds = TensorDataset(torch.randn(32, 4), torch.randint(0, 2, (32,)))
model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
opt = torch.optim.SGD(model.parameters(), lr=0.3)
buf, acc = torch.zeros(8, 4), torch.zeros(8)
for x, y in DataLoader(ds, batch_size=8):
    x[0].zero_()
    x[2:4].mul_(2)
    x[5][1] = 7.0
    row = x[6]
    row += 1
    x.t()[2].fill_(0.5)
    x.view(-1)[3] = 9.0
    buf.copy_(x)
    acc.add_(x.sum(1))
    buf.mul_(x)
    c = x.clone(); c[:, 1].fill_(3.0); c[1:3] = c[3:5].clone()
    a, b = F.cross_entropy(model(x), y), model(c).pow(2).mean()
    opt.zero_grad()
    torch.autograd.backward([a, b])
    opt.step()
    del row
    print(f"{a.item():.6f} {b.item():.6f} {x.sum().item():.5f} {buf.sum().item():.5f} {acc.sum().item():.5f} {c.sum().item():.5f}")
