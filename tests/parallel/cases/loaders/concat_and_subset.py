# ConcatDataset and Subset
import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset

torch.manual_seed(21)
a = TensorDataset(torch.randn(30, 3), torch.zeros(30, dtype=torch.long))
b = TensorDataset(torch.randn(25, 3) + 1, torch.ones(25, dtype=torch.long))
both = ConcatDataset([a, Subset(b, range(0, 25, 2))])
loader = DataLoader(both, batch_size=11, shuffle=True)
print(len(both), len(loader))
model = nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
for epoch in range(3):
    correct = 0
    for X, t in loader:
        z = model(X)
        loss = nn.functional.cross_entropy(z, t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        correct += (z.argmax(dim=1) == t).sum()
    print(f"loss={loss:.6f} acc={correct / len(both):.6f}")
