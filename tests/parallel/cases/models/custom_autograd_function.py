# custom autograd.Function on model outputs: straight-through, gradient reversal (DANN), clipped loss
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, lam):
        ctx.lam = lam
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -ctx.lam * g, None


class STE(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (x.abs() < 1).float()


class MyMSE(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return ((a - b) ** 2).mean()

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        return g * 2 * (a - b) / a.numel(), None


torch.manual_seed(0)
ds = TensorDataset(torch.randn(29, 5), torch.randint(0, 3, (29,)), torch.randint(0, 2, (29,)))
enc, clf, dom = nn.Linear(5, 8), nn.Linear(8, 3), nn.Linear(8, 2)
opt = torch.optim.SGD([*enc.parameters(), *clf.parameters(), *dom.parameters()], lr=0.1)
for x, y, d in DataLoader(ds, batch_size=8):
    h = enc(x)
    loss = F.cross_entropy(clf(h), y) + F.cross_entropy(dom(Reverse.apply(h, 0.3)), d) + STE.apply(h).mean() + MyMSE.apply(h, x.sum(1, keepdim=True))
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.6f} {enc.weight.grad.abs().sum().item():.6f}")
