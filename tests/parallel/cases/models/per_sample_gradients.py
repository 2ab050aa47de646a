# torch.func: per-sample gradients, vmap, grad and functional_call in a loader loop, ensembles
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, grad_and_value, vmap, jacrev, stack_module_state
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ds = TensorDataset(torch.randn(29, 5), torch.randint(0, 3, (29,)))
model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
params = {k: v.detach().clone() for k, v in model.named_parameters()}


def loss_fn(p, x, y):
    return F.cross_entropy(functional_call(model, p, (x,)), y)


def one(p, x, y):
    return F.cross_entropy(functional_call(model, p, (x.unsqueeze(0),)), y.unsqueeze(0))


for x, y in DataLoader(ds, batch_size=8):
    g, l = grad_and_value(loss_fn)(params, x, y)
    per = vmap(grad(one), in_dims=(None, 0, 0))(params, x, y)
    norms = torch.stack([v.flatten(1).norm(dim=1) for v in per.values()]).norm(dim=0)
    clip = (1.0 / norms.clamp(min=1.0))
    params = {k: p - 0.1 * (per[k] * clip.view(-1, *[1] * (per[k].dim() - 1))).mean(0) for k, p in params.items()}
    print(f"{l.item():.6f} {norms.sum().item():.6f}", norms.shape)
j = vmap(jacrev(lambda z: functional_call(model, params, (z.unsqueeze(0),)).squeeze(0)))(ds.tensors[0][:4])
print(j.shape, f"{j.sum():.6f}")
models = [nn.Linear(5, 3) for _ in range(3)]
sp, sb = stack_module_state(models)
for x, y in DataLoader(ds, batch_size=8):
    outs = vmap(lambda p, b, z: functional_call(models[0], (p, b), (z,)), in_dims=(0, 0, None))(sp, sb, x)
    print(outs.shape, f"{outs.sum().item():.6f}")
