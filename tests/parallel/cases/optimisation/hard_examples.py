# topk, sort, kthvalue over the batch: online hard example mining, trimmed loss
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ds = TensorDataset(torch.randn(43, 5), torch.randint(0, 3, (43,)))
model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(2):
    for x, y in DataLoader(ds, batch_size=9, shuffle=True):
        out = model(x)
        ce = F.cross_entropy(out, y, reduction="none")
        k = max(1, int(0.7 * len(ce)))
        top, at = ce.topk(k)
        srt, order = torch.sort(ce)
        thr = torch.quantile(ce.detach(), 0.5)
        med = ce.median()
        loss = top.mean() + srt[:3].sum() + med + (ce * (ce > thr)).sum() / x.shape[0]
        ys = y[order]
        xs = x[at]
        cs = ce.cumsum(0)
        loss = loss + 0.01 * cs[-1] + 0.01 * ce.cumsum(0).mean() + 0.001 * torch.logcumsumexp(ce, 0).sum()
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, f"{loss.item():.6f} {thr.item():.6f}", ys.tolist(), xs.sum().item(), at.tolist(), ce.max().item(), ce.argmax().item(), ce.min(0).indices.item())
