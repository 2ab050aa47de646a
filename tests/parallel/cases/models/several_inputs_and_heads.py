# Two inputs, three heads, a weighted sum of three losses
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
n = 39
ds = TensorDataset(torch.randn(n, 4), torch.randint(0, 6, (n, 2)), torch.randint(0, 3, (n,)), torch.randn(n), torch.rand(n, 2).round())


class MultiTask(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(6, 3)
        self.shared = nn.Linear(10, 12)
        self.heads = nn.ModuleList([nn.Linear(12, 3), nn.Linear(12, 1), nn.Linear(12, 2)])

    def forward(self, dense, *, categorical):
        h = torch.cat([dense, self.emb(categorical).flatten(1)], dim=-1)
        h = torch.relu(self.shared(h))
        return tuple(head(h) for head in self.heads)


model = MultiTask()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(2):
    totals = [0.0, 0.0, 0.0]
    for dense, cat, cls, reg, multi in DataLoader(ds, batch_size=11, shuffle=True):
        a, b, c = model(dense, categorical=cat)
        parts = [
            nn.functional.cross_entropy(a, cls),
            nn.functional.mse_loss(b.squeeze(-1), reg),
            nn.functional.binary_cross_entropy_with_logits(c, multi),
        ]
        loss = parts[0] + 0.5 * parts[1] + 2 * parts[2]
        opt.zero_grad()
        loss.backward()
        opt.step()
        totals = [t + p.item() for t, p in zip(totals, parts)]
    print(epoch, " ".join(f"{t:.6f}" for t in totals), f"{loss.item():.6f}")
