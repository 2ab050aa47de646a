# Tied weights: one matrix as encoder and decoder
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(9, 4)
        self.dec_bias = nn.Parameter(torch.zeros(9))
        self.emb = nn.Embedding(11, 4)
        self.proj = nn.Linear(4, 11, bias=False)
        self.proj.weight = self.emb.weight

    def forward(self, x, ids):
        h = torch.tanh(self.enc(x))
        return F.linear(h, self.enc.weight.t(), self.dec_bias), self.proj(h + self.emb(ids))


torch.manual_seed(0)
ds = TensorDataset(torch.randn(42, 9), torch.randint(0, 11, (42,)))
model = Tied()
print(len(list(model.parameters())))
opt = torch.optim.SGD(model.parameters(), lr=0.05)
for x, ids in DataLoader(ds, batch_size=10, shuffle=True):
    rec, logits = model(x, ids)
    loss = F.mse_loss(rec, x) + F.cross_entropy(logits, ids)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.6f}")
