# a parameter hook that clips the gradient (not linear), and post accumulate hooks that step
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ds = TensorDataset(torch.randn(29, 5), torch.randint(0, 3, (29,)))
model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
opts = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}


def hook(p):
    opts[p].step()
    opts[p].zero_grad()


for p in model.parameters():
    p.register_post_accumulate_grad_hook(hook)
for x, y in DataLoader(ds, batch_size=8):
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    print(f"{loss.item():.6f}")
