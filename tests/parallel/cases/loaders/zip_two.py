# Two loaders zipped, the shorter one cycled (semi-supervised style)
from itertools import cycle

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(6)
labelled = DataLoader(TensorDataset(torch.randn(20, 5), torch.randint(0, 2, (20,))), batch_size=6, shuffle=True)
unlabelled = DataLoader(TensorDataset(torch.randn(50, 5)), batch_size=9, shuffle=True)
model = nn.Linear(5, 2)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for (xl, yl), (xu,) in zip(cycle(labelled), unlabelled):
    supervised = nn.functional.cross_entropy(model(xl), yl)
    p = model(xu).softmax(dim=1)
    entropy = -(p * p.log()).sum(dim=1).mean()
    loss = supervised + 0.1 * entropy
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{supervised.item():.6f} {entropy.item():.6f}")
