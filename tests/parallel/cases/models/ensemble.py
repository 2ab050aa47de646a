# Several models trained side by side, their predictions averaged
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X = torch.randn(60, 4)
Y = (X[:, 0] > 0).long()
train = DataLoader(TensorDataset(X[:44], Y[:44]), batch_size=9, shuffle=True)
test = DataLoader(TensorDataset(X[44:], Y[44:]), batch_size=9)
models = [nn.Sequential(nn.Linear(4, h), nn.ReLU(), nn.Linear(h, 2)) for h in (4, 8, 16)]
opts = [torch.optim.SGD(m.parameters(), lr=0.1) for m in models]
for epoch in range(2):
    for x, y in train:
        for m, o in zip(models, opts):
            loss = nn.functional.cross_entropy(m(x), y)
            o.zero_grad()
            loss.backward()
            o.step()
with torch.no_grad():
    hits = 0
    for x, y in test:
        p = torch.stack([m(x).softmax(-1) for m in models]).mean(0)
        hits += (p.argmax(-1) == y).sum().item()
print(f"{loss.item():.6f} {hits}/{len(test.dataset)}")
