# A learning-rate range test: state kept, lr raised per batch, state restored
import copy
import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(80, 4), torch.randint(0, 3, (80,))), batch_size=9, shuffle=True)
model = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 3))
start_state = copy.deepcopy(model.state_dict())
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
lrs, losses, smooth, best = [], [], 0.0, math.inf
for i, (x, y) in enumerate(loader, 1):
    lr = 1e-3 * (1e4 ** (i / len(loader)))
    for group in optimizer.param_groups:
        group["lr"] = lr
    loss = nn.functional.cross_entropy(model(x), y)
    smooth = 0.7 * smooth + 0.3 * loss.item()
    corrected = smooth / (1 - 0.7**i)
    if i > 1 and corrected > 2 * best:
        break
    best = min(best, corrected)
    lrs.append(math.log10(lr))
    losses.append(corrected)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
model.load_state_dict(start_state)
print(len(lrs), " ".join(f"{l:.5f}" for l in losses))
