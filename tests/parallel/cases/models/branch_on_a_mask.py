# a mask that is checked by all(), dropout beside it, evaluation under inference_mode, AMP
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Enc(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(20, 8)
        self.att = nn.MultiheadAttention(8, 2, batch_first=True)
        self.drop, self.out = nn.Dropout(0.2), nn.Linear(8, 3)
        self.bn = nn.BatchNorm1d(8)

    def forward(self, ids, mask):
        h = self.emb(ids)
        if torch.all(mask):
            a, _ = self.att(h, h, h)
        else:
            a, _ = self.att(h, h, h, key_padding_mask=~mask)
        h = self.drop(h + a)
        w = mask.unsqueeze(-1).float()
        pooled = (h * w).sum(1) / w.sum(1)
        return self.out(self.bn(pooled))


torch.manual_seed(0)
ids = torch.randint(1, 20, (45, 6))
mask = torch.ones(45, 6, dtype=torch.bool)
mask[9:11, 4:] = False
mask[20:, 3:] = False
ds = TensorDataset(ids, mask, torch.randint(0, 3, (45,)))
model = Enc()
opt = torch.optim.AdamW(model.parameters(), lr=0.01, eps=1e-3)
for epoch in range(2):
    model.train()
    for i, m, y in DataLoader(ds, batch_size=9):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=False):
            loss = F.cross_entropy(model(i, m), y)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(model.parameters(), 0.1)
        opt.step()
        print(f"{loss.item():.5f}")
    model.eval()
    with torch.inference_mode():
        out = torch.cat([model(i, m) for i, m, _ in DataLoader(ds, batch_size=10)])
    print(epoch, f"{F.cross_entropy(out, ds.tensors[2]).item():.5f}", (out.argmax(1) == ds.tensors[2]).sum().item())
