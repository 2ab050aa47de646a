# torch.func on batches of a loader: per-sample gradients by vmap
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(21, 3), torch.randn(21, 1)), batch_size=6)
net = nn.Linear(3, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)


def loss_of_one(params, x, y):
    return ((functional_call(net, params, (x.unsqueeze(0),)) - y.unsqueeze(0)) ** 2).mean()


for x, y in loader:
    params = {k: v.detach() for k, v in net.named_parameters()}
    per_sample = vmap(grad(loss_of_one), in_dims=(None, 0, 0))(params, x, y)
    norms = per_sample["weight"].flatten(1).norm(dim=1)
    for name, p in net.named_parameters():
        clipped = per_sample[name] / norms.clamp(min=1.0).view(-1, *[1] * p.dim())
        p.grad = clipped.mean(0)
    opt.step()
    print(f"{norms.mean().item():.6f} {norms.max().item():.6f}")
