# a masked mean inside the model: the first batch has no padding, later ones have
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Div(nn.Module):
    def __init__(self, style):
        super().__init__()
        self.out, self.style = nn.Linear(4, 1), style

    def forward(self, x, mask, t):
        e = (self.out(x).squeeze(-1) - t) ** 2
        if self.style == 0:
            return (e * mask).sum() / mask.sum()
        if self.style == 1:
            return e[mask > 0].mean()
        if self.style == 2:
            return torch.masked_select(e, mask.bool()).mean()
        if self.style == 3:
            return (e * mask).sum() / mask.sum().item()
        return ((e * mask).sum(1) / mask.sum(1)).mean()


torch.manual_seed(0)
mask = torch.ones(32, 5)
for i in range(8, 32):
    mask[i, 1 + i % 5:] = 0
ds = TensorDataset(torch.randn(32, 5, 4), mask, torch.randn(32, 5))
for style in range(5):
    model = Div(style)
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, m, t in DataLoader(ds, batch_size=8):
        loss = model(x, m, t)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(style, f"{loss.item():.6f}")
