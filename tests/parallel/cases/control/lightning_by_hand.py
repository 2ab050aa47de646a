# a trainer class: callbacks, history, gradient accumulation, schedulers, grads logged by name, weights histogram
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 12), nn.LayerNorm(12), nn.GELU(), nn.Linear(12, 3))
        self.history = []
        self.best = float("inf")

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch):
        x, y = batch
        self.batch_size = len(x)
        self.last = self(x)
        return F.cross_entropy(self.last, y)

    def validation_step(self, batch):
        x, y = batch
        out = self(x)
        return {"loss": F.cross_entropy(out, y).detach(), "acc": (out.argmax(1) == y).float().mean(), "n": len(x)}


def fit(model, train, valid, epochs=3, accumulate=2):
    opt = torch.optim.SGD(model.parameters(), lr=0.1, nesterov=True, momentum=0.8)
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, epochs)
    for epoch in range(epochs):
        model.train()
        losses = []
        for i, batch in enumerate(train):
            loss = model.training_step(batch)
            losses.append(loss)
            (loss / accumulate).backward()
            if (i + 1) % accumulate == 0 or i + 1 == len(train):
                norms = {n: p.grad.norm().item() for n, p in model.named_parameters()}
                opt.step()
                opt.zero_grad()
        sched.step()
        model.eval()
        with torch.no_grad():
            outs = [model.validation_step(b) for b in valid]
        n = sum(o["n"] for o in outs)
        v = sum(o["loss"] * o["n"] for o in outs) / n
        a = torch.stack([o["acc"] for o in outs]).mean()
        mean = torch.stack(losses).mean().item()
        if v < model.best:
            model.best = v.item()
        model.history.append({"train": mean, "val": v.item(), "acc": a.item()})
        print(epoch, f"{mean:.6f} {v:.6f} {a:.4f} {max(norms.values()):.6f} {model.last.shape} {model.batch_size}", *losses[-1:])


torch.manual_seed(0)
ds = TensorDataset(torch.randn(61, 5), torch.randint(0, 3, (61,)))
a, b = random_split(ds, [45, 16])
model = Model()
fit(model, DataLoader(a, 8, shuffle=True), DataLoader(b, 6))
print(model.history)
