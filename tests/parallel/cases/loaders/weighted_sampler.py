# WeightedRandomSampler for an unbalanced problem
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

torch.manual_seed(1)
X = torch.randn(90, 6)
y = (torch.rand(90) < 0.15).long()
class_count = np.bincount(y.numpy())
weights = 1.0 / class_count
sample_weights = torch.tensor([weights[t] for t in y.tolist()])
sampler = WeightedRandomSampler(sample_weights, len(sample_weights))
loader = DataLoader(TensorDataset(X, y), batch_size=13, sampler=sampler)

net = nn.Linear(6, 2)
opt = torch.optim.SGD(net.parameters(), lr=0.05)
seen = [0, 0]
for epoch in range(2):
    for xb, yb in loader:
        loss = nn.functional.cross_entropy(net(xb), yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
        seen[0] += int((yb == 0).sum())
        seen[1] += int((yb == 1).sum())
    print(epoch, f"{loss.item():.6f}", seen)
