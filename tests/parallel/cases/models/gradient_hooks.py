# gradient hooks on parameters and activations, full backward hooks, capture of features
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ds = TensorDataset(torch.randn(29, 5), torch.randint(0, 3, (29,)))
model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
norms = []
for p in model.parameters():
    p.register_hook(lambda g: g.clamp(-0.02, 0.02))
model[0].weight.register_hook(lambda g: norms.append(g.norm().item()))
seen = []
model[2].register_full_backward_hook(lambda m, gi, go: seen.append(go[0].abs().sum().item()))
for x, y in DataLoader(ds, batch_size=8):
    out = model(x)
    out.register_hook(lambda g: g * 2)
    out.retain_grad()
    loss = F.cross_entropy(out, y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.6f} {norms[-1]:.6f} {seen[-1]:.6f} {out.grad.abs().sum().item():.6f}")
