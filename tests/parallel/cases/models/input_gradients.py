# gradients of inputs: saliency, PGD, jacobian, hessian vector products, higher order
import torch
torch.set_default_dtype(torch.float64)
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ds = TensorDataset(torch.randn(29, 5), torch.randint(0, 3, (29,)))
model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in DataLoader(ds, batch_size=8, shuffle=True):
    # PGD
    delta = torch.zeros_like(x, requires_grad=True)
    for _ in range(3):
        l = F.cross_entropy(model(x + delta), y)
        l.backward()
        with torch.no_grad():
            delta += 0.05 * delta.grad.sign()
            delta.clamp_(-0.1, 0.1)
        delta.grad.zero_()
    adv = x + delta.detach()
    # PGD by autograd.grad
    d2 = torch.empty_like(x).uniform_(-0.1, 0.1)
    d2.requires_grad_()
    g = torch.autograd.grad(F.cross_entropy(model(x + d2), y), [d2])[0]
    d2 = (d2 + 0.1 * g.sign()).clamp(-0.1, 0.1).detach()
    # input gradient penalty
    xi = x.clone().detach().requires_grad_(True)
    out = model(xi)
    loss = F.cross_entropy(out, y)
    gi = torch.autograd.grad(loss, xi, create_graph=True)[0]
    loss = loss + 5.0 * gi.pow(2).sum() + F.cross_entropy(model(adv), y) + F.cross_entropy(model(x + d2), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.6f} {gi.norm().item():.6f} {delta.abs().sum().item():.6f}", gi.shape)
# hvp over parameters
x, y = ds.tensors
ps = list(model.parameters())
l = F.cross_entropy(model(x), y)
gs = torch.autograd.grad(l, ps, create_graph=True)
v = [torch.ones_like(p) for p in ps]
hv = torch.autograd.grad(sum((g * w).sum() for g, w in zip(gs, v)), ps)
print([f"{h.sum().item():.5f}" for h in hv])
print(torch.autograd.functional.jacobian(model, x[:2]).shape, f"{torch.autograd.functional.jacobian(model, x[:2]).sum():.6f}")
sal = x.clone().requires_grad_()
model(sal).max(1).values.sum().backward()
print(f"{sal.grad.abs().sum():.6f}")
