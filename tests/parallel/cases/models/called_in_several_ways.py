# one model called in several ways: flags, other outputs, other batch sizes, a method, nested parts
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec, self.clf = nn.Linear(5, 4), nn.Linear(4, 5), nn.Linear(4, 3)

    def encode(self, x):
        return torch.tanh(self.enc(x))

    def forward(self, x, y=None, mode="clf", scale=1.0, n=1):
        h = self.encode(x) * scale
        if mode == "both":
            return self.clf(h), self.dec(h)
        if n > 1:
            return [self.clf(h) for _ in range(n)]
        out = self.clf(h)
        if y is not None:
            return {"loss": F.cross_entropy(out, y), "logits": out}
        return out


torch.manual_seed(0)
ds = TensorDataset(torch.randn(45, 5), torch.randint(0, 3, (45,)))
model = Net()
opt = torch.optim.SGD(model.parameters(), lr=0.2)
for i, (x, y) in enumerate(DataLoader(ds, batch_size=9, shuffle=True)):
    logits, rec = model(x, mode="both")
    loss = F.cross_entropy(logits, y) + F.mse_loss(rec, x)
    loss = loss + model(x, y)["loss"] + F.cross_entropy(model(x, scale=0.5 + i), y)
    outs = model(x, n=2 + i % 2)
    loss = loss + sum(F.cross_entropy(o, y) for o in outs) / len(outs)
    loss = loss + model.dec(model.encode(x)).pow(2).mean() + F.cross_entropy(model(x[:4]), y[:4]) + model(x[:1]).pow(2).mean() + model(torch.cat([x, x])).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(len(outs), f"{loss.item():.6f}")
