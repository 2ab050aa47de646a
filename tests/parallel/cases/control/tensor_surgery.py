# slicing, in-place writes, concat, numpy, pandas, iteration over sharded tensors
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ds = TensorDataset(torch.randn(45, 6), torch.randint(0, 3, (45,)))
model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
rows = []
allp = np.zeros((0, 3))
store = torch.zeros(45, 3)
at = 0
for x, y in DataLoader(ds, batch_size=9, shuffle=True):
    x = x.clone()
    x[:, 0] = 0.0
    x[0] = 1.0
    x[2:4, 1:] *= 2
    x[y == 1] += 0.5
    x[torch.arange(len(x)), y] = 3.0
    x += torch.arange(6)
    x -= x.mean(0)
    x /= x.std(0) + 1
    half = len(x) // 2
    a, b = x[:half], x[half:]
    z = torch.cat([b, a])
    yz = torch.cat((y[half:], y[:half]), dim=0)
    out = model(z)
    loss = F.cross_entropy(out, yz) + model(a).mean() + model(x[::2]).pow(2).mean() + model(x[-1:]).mean() + model(x[3]).sum() + model(x.flip(0))[0].sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    p = out.softmax(1).detach()
    store[at:at + len(p)] = p
    at += len(p)
    allp = np.concatenate([allp, p.cpu().numpy()])
    for i, (row, label) in enumerate(zip(p, yz)):
        if i < 2:
            rows.append({"label": label.item(), "p": round(row[label].item(), 5), "arg": int(row.argmax())})
    pc, yc = p.chunk(3), y.split([4, 5])
    u = torch.unique(y, return_counts=True)
    bc = torch.bincount(y, minlength=3)
    perm = torch.randperm(len(x))
    mixed = 0.3 * x + 0.7 * x[perm]
    rolled = torch.roll(x, 1, 0)
    rep = x.repeat(2, 1)
    ex = x.unsqueeze(0).expand(2, -1, -1)
    st = torch.stack([x, rolled])
    print(f"{loss.item():.6f} {mixed.sum().item():.5f} {model(mixed).sum().item():.5f} {model(rep).sum().item():.5f} {st.sum().item():.5f}", [t.shape[0] for t in pc], u[1].tolist(), bc.tolist(), model(ex).shape, model(st).shape)
print(rows, allp.sum(), store.sum())
