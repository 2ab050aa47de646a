# buffers that the forward updates from the batch: a codebook by moving averages, a queue, running range
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Codebook(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(5, 4), nn.Linear(4, 5)
        self.register_buffer("codes", torch.randn(6, 4))
        self.register_buffer("count", torch.ones(6))
        self.register_buffer("low", torch.tensor(0.0))
        self.register_buffer("queue", torch.zeros(10, 4))
        self.register_buffer("at", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        z = self.enc(x)
        which = torch.cdist(z, self.codes).argmin(1)
        q = self.codes[which]
        if self.training:
            with torch.no_grad():
                one = F.one_hot(which, 6).float()
                self.count.mul_(0.9).add_(one.sum(0), alpha=0.1)
                self.codes.mul_(0.9).add_(0.1 * (one.T @ z) / self.count[:, None])
                self.low.copy_(torch.minimum(self.low, z.min()))
        return self.dec(z + (q - z).detach()), F.mse_loss(z, q.detach())


class Queue(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(5, 4)
        self.register_buffer("queue", torch.zeros(10, 4))
        self.seen = 0

    def forward(self, x):
        z = F.normalize(self.enc(x), dim=1)
        logits = z @ self.queue.clone().T
        self.queue = torch.cat([z.detach(), self.queue])[:10]
        self.seen += len(x)
        return logits


torch.manual_seed(0)
ds = TensorDataset(torch.randn(29, 5))
model, q = Codebook(), Queue()
opt = torch.optim.SGD([*model.parameters(), *q.parameters()], lr=0.1)
for (x,) in DataLoader(ds, batch_size=8):
    out, commit = model(x)
    loss = F.mse_loss(out, x) + 0.25 * commit + q(x).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.6f} {commit.item():.6f} {model.low.item():.6f}", q.seen)
