# mean teacher, BYOL, momentum encoder, deepcopy of the model, load_state_dict in the loop, snapshot ensembles
import copy
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ds = TensorDataset(torch.randn(45, 5), torch.randint(0, 3, (45,)))
net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
teacher = copy.deepcopy(net).requires_grad_(False)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
best, best_loss, snaps = None, float("inf"), []
for epoch in range(3):
    tot = 0.0
    for x, y in DataLoader(ds, batch_size=9, shuffle=True):
        with torch.no_grad():
            q = teacher(x + 0.1 * torch.randn_like(x)).softmax(1)
        p = net(x)
        loss = F.cross_entropy(p, y) + F.mse_loss(p.softmax(1), q) + F.kl_div(p.log_softmax(1), q, reduction="batchmean")
        opt.zero_grad()
        loss.backward()
        opt.step()
        with torch.no_grad():
            for a, b in zip(teacher.parameters(), net.parameters()):
                a.mul_(0.9).add_(b, alpha=0.1)
            for a, b in zip(teacher.buffers(), net.buffers()):
                a.copy_(b)
        tot += loss.item() * x.size(0)
    if tot < best_loss:
        best_loss, best = tot, copy.deepcopy(net.state_dict())
    snaps.append(copy.deepcopy(net).eval())
    print(f"{tot / len(ds):.6f}")
net.load_state_dict(best)
net.eval()
with torch.inference_mode():
    ens = torch.stack([m(ds.tensors[0]).softmax(1) for m in snaps]).mean(0)
    print((ens.argmax(1) == ds.tensors[1]).float().mean().item(), F.cross_entropy(net(ds.tensors[0]), ds.tensors[1]).item())
    for x, y in DataLoader(ds, batch_size=20):
        print(net(x).sum().item(), (net(x).argmax(1) == y).sum())
