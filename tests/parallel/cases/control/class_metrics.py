# per-class metrics, confusion by bincount, index_add, scatter_add, len(batch) weighting
import collections
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ds = TensorDataset(torch.randn(45, 6), torch.randint(0, 3, (45,)))
model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
cm = torch.zeros(3, 3, dtype=torch.long)
sums = torch.zeros(3)
cent = torch.zeros(3, 8)
counter = collections.Counter()
total, correct, running = 0, 0, 0.0
feats = []
for x, y in DataLoader(ds, batch_size=9, shuffle=True):
    h = model[0](x)
    out = model[2](model[1](h))
    loss = F.cross_entropy(out, y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    pred = out.max(1)[1]
    _, pred2 = torch.max(out.data, 1)
    cm += torch.bincount(y * 3 + pred, minlength=9).view(3, 3)
    sums.index_add_(0, y, out.detach().max(1).values)
    cent.scatter_add_(0, y[:, None].expand(-1, 8), h.detach())
    counter.update(pred.tolist())
    total += y.size(0)
    correct += (pred2 == y).sum()
    running += loss.item() * x.size(0)
    tp = ((pred == 1) & (y == 1)).sum().item()
    fp = ((pred == 1) & (y != 1)).sum().float()
    acc = (pred == y).float().mean()
    feats.append(h.detach())
    top2 = out.topk(2, dim=1).indices.eq(y.view(-1, 1)).any(1).float().mean()
    pcorr = pred.eq(y.view_as(pred)).sum().item()
    for t, p in zip(y.view(-1), pred.view(-1)):
        cm[t.long(), p.long()] += 1
    print(tp, fp, f"{acc:.4f} {top2:.4f}", pcorr, tuple(out.shape), y.float().mean(), float(y.max()))
F_ = torch.cat(feats)
print(cm.tolist(), sums, dict(sorted(counter.items())), total, correct, running / total, correct / total, 100.0 * correct / len(ds))
print(F_.shape, F_.mean(0)[:3], cent.sum().item(), torch.corrcoef(F_.T).sum(), torch.cov(F_.T).trace(), torch.linalg.svdvals(F_)[:2], torch.pca_lowrank(F_, q=2)[1].shape)
