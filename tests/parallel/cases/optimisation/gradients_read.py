# Gradients printed, scaled by hooks, collected for a histogram
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 1))
model[0].weight.register_hook(lambda g: g * 0.5)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
flow = []
for x, y in DataLoader(TensorDataset(torch.randn(29, 3), torch.randn(29, 1)), batch_size=7):
    opt.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    flow.append([p.grad.abs().mean().item() for p in model.parameters()])
    print(model[2].bias.grad, np.round(flow[-1][0], 6))
    opt.step()
grads = model[0].weight.grad.clone()
