# Optimizer state saved, loaded into a new optimizer, and gone on with
import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(30, 4), torch.randn(30, 1)), batch_size=7)
model = nn.Linear(4, 1)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)


def run(optimizer):
    for x, y in loader:
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


print(f"{run(optimizer):.6f}")
state = copy.deepcopy(optimizer.state_dict())
fresh = torch.optim.Adam(model.parameters(), lr=1e-3)
fresh.load_state_dict(state)
print(f"{run(fresh):.6f}", fresh.param_groups[0]["lr"], int(fresh.state_dict()["state"][0]["step"]))
