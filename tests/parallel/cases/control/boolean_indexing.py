# boolean indexing: hard-example mining, masked losses, per-class accuracy
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ds = TensorDataset(torch.randn(43, 5), torch.randint(0, 3, (43,)))
model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(2):
    hits, seen = torch.zeros(3), torch.zeros(3)
    for x, y in DataLoader(ds, batch_size=9, shuffle=True):
        out = model(x)
        ce = F.cross_entropy(out, y, reduction="none")
        hard = ce[ce > ce.mean()]
        pos = out[y == 1]
        idx = torch.where(y != 2)[0]
        nz = (y == 0).nonzero(as_tuple=True)[0]
        loss = hard.mean() + 0.1 * (pos.pow(2).sum() / max(1, len(pos))) + out[idx, 0].abs().mean() + 0.1 * out[nz].sum()
        sel = torch.masked_select(out, out > 0)
        loss = loss + 0.01 * sel.sum()
        opt.zero_grad()
        loss.backward()
        opt.step()
        pred = out.argmax(1)
        for c in range(3):
            m = y == c
            seen[c] += m.sum()
            hits[c] += (pred[m] == y[m]).sum()
    print(epoch, f"{loss.item():.6f}", hits.tolist(), (hits / seen).tolist(), len(hard), sel.shape)
