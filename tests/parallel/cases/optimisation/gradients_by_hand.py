# gradients by hand: autograd.grad over parameters of several losses, PCGrad, gradnorm, MAML, manual SGD, per-loss norms
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
ds = TensorDataset(torch.randn(41, 5), torch.randint(0, 3, (41,)), torch.randn(41, 1))
body, h1, h2 = nn.Sequential(nn.Linear(5, 8), nn.Tanh()), nn.Linear(8, 3), nn.Linear(8, 1)
ps = [*body.parameters()]
w = nn.Parameter(torch.ones(2))
opt = torch.optim.Adam([*ps, *h1.parameters(), *h2.parameters()], lr=0.01)
wopt = torch.optim.SGD([w], lr=0.05)
for x, y, t in DataLoader(ds, batch_size=9):
    h = body(x)
    l1, l2 = F.cross_entropy(h1(h), y), F.mse_loss(h2(h), t)
    g1 = torch.autograd.grad(l1, ps, retain_graph=True)
    g2 = torch.autograd.grad(l2, ps, retain_graph=True)
    dot = sum((a * b).sum() for a, b in zip(g1, g2))
    opt.zero_grad()
    (l1 + l2).backward(retain_graph=True)
    if dot < 0:
        n2 = sum((b * b).sum() for b in g2)
        for p, a, b in zip(ps, g1, g2):
            p.grad = a - dot / n2 * b + b
    opt.step()
    # gradnorm
    h = body(x)
    l = torch.stack([F.cross_entropy(h1(h), y), F.mse_loss(h2(h), t)])
    n = torch.stack([torch.autograd.grad(w[i] * l[i], ps[0], create_graph=True)[0].norm() for i in range(2)])
    gl = (n - n.mean().detach()).abs().sum()
    wopt.zero_grad()
    w.grad = torch.autograd.grad(gl, w)[0]
    wopt.step()
    # MAML: inner step, outer loss
    fast = [p - 0.1 * g for p, g in zip(ps, torch.autograd.grad(F.mse_loss(h2(body(x[:5])), t[:5]), ps, create_graph=True))]
    hq = torch.tanh(F.linear(x[5:], fast[0], fast[1]))
    outer = F.mse_loss(h2(hq), t[5:])
    gs = torch.autograd.grad(outer, ps)
    with torch.no_grad():
        for p, g in zip(ps, gs):
            p -= 0.05 * g
    print(f"{l1.item():.8f} {l2.item():.8f} {dot.item():.8f} {w.tolist()} {outer.item():.8f} {sum(g.abs().sum() for g in gs):.8f}")
