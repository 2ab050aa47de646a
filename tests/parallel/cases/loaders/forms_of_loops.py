# pin_memory, persistent workers, generators, nested loaders, islice, cycle, enumerate with break, next(iter)
import itertools
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, RandomSampler, SequentialSampler, BatchSampler, SubsetRandomSampler

torch.manual_seed(0)
ds = TensorDataset(torch.randn(45, 5), torch.randint(0, 3, (45,)))
model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
opt = torch.optim.SGD(model.parameters(), lr=0.1)


def step(x, y):
    loss = F.cross_entropy(model(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    return loss.item()


a = DataLoader(ds, batch_size=8, shuffle=True, num_workers=2, persistent_workers=True, prefetch_factor=3, generator=torch.Generator().manual_seed(1))
for epoch in range(2):
    tot = sum(step(x, y) * len(x) for x, y in a) / len(a.dataset)
    print(f"{tot:.6f}")
b = DataLoader(ds, sampler=RandomSampler(ds, replacement=True, num_samples=30), batch_size=7)
print([f"{step(x, y):.6f}" for x, y in itertools.islice(b, 3)])
it = itertools.cycle(b)
print([f"{step(*next(it)):.6f}" for _ in range(7)])
c = DataLoader(ds, batch_sampler=BatchSampler(SubsetRandomSampler(range(0, 45, 2)), 5, False))
for i, (x, y) in enumerate(c):
    for x2, y2 in DataLoader(ds, batch_size=20):
        l2 = step(torch.cat([x, x2]), torch.cat([y, y2]))
    if i == 2:
        break
print(f"{l2:.6f}", len(c), i)
d = DataLoader(ds, batch_size=None)
for k, (x, y) in enumerate(d):
    if k == 3: break
print(x.shape, y.item(), step(x[None], y[None]))
e = DataLoader(ds, batch_size=45)
(x, y), = list(e)
print(x.mean().item(), step(x, y))
f = DataLoader(list(zip(ds.tensors[0], ds.tensors[1])), batch_size=10)
print([step(x, y) for x, y in f][-1])
g = DataLoader([{"x": ds.tensors[0][i].numpy(), "y": int(ds.tensors[1][i])} for i in range(45)], batch_size=10, shuffle=True)
print([step(b["x"], b["y"]) for b in g][-1])
batches = [b for b in DataLoader(ds, batch_size=8)]
import random
random.shuffle(batches)
print([step(x, y) for x, y in batches][-1])
X = torch.cat([x for x, _ in batches]); Y = torch.cat([y for _, y in batches])
print(X.shape, X.sum().item(), step(X, Y), step(X[:20], Y[:20]))
h = iter(DataLoader(ds, batch_size=8, shuffle=True))
print(len(h), step(*next(h)))
n = 0
while (batch := next(h, None)) is not None:
    n += len(batch[0])
print(n)
