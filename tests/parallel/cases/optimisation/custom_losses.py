# Focal loss, Dice loss, log-cosh, quantile loss written in the notebook
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


class FocalLoss(nn.Module):
    def __init__(self, alpha=1.0, gamma=2.0):
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def forward(self, inputs, targets):
        ce = F.cross_entropy(inputs, targets, reduction="none")
        pt = torch.exp(-ce)
        return (self.alpha * (1 - pt) ** self.gamma * ce).mean()


def dice_loss(pred, target, smooth=1.0):
    pred = torch.sigmoid(pred)
    intersection = (pred * target).sum()
    return 1 - (2.0 * intersection + smooth) / (pred.sum() + target.sum() + smooth)


def log_cosh(a, b):
    return torch.mean(torch.log(torch.cosh(a - b)))


def quantile(pred, target, qs=(0.1, 0.5, 0.9)):
    out = []
    for i, q in enumerate(qs):
        e = target - pred[:, i]
        out.append(torch.max((q - 1) * e, q * e).unsqueeze(1))
    return torch.mean(torch.sum(torch.cat(out, dim=1), dim=1))


torch.manual_seed(0)
ds = TensorDataset(torch.randn(46, 6), torch.randint(0, 3, (46,)), torch.rand(46, 2).round(), torch.randn(46))
model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 9))
opt = torch.optim.SGD(model.parameters(), lr=0.05)
focal = FocalLoss()
for epoch in range(2):
    for x, cls, mask, reg in DataLoader(ds, batch_size=10, shuffle=True):
        out = model(x)
        a = focal(out[:, :3], cls)
        b = dice_loss(out[:, 3:5], mask)
        c = log_cosh(out[:, 5], reg)
        d = quantile(out[:, 6:9], reg)
        loss = a + b + c + d
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(f"{a:.6f} {b:.6f} {c:.6f} {d:.6f}")
