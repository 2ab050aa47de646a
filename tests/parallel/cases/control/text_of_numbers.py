# Numbers in strings: format, %, rounding, scientific notation, percent
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(26, 3), torch.randn(26, 1)), batch_size=6)
model = nn.Linear(3, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.05)
lines = []
for step, (x, y) in enumerate(loader, start=1):
    loss = (model(x) - y).abs().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    lines.append("step {:>3d}/{} | loss {:.3e} | {:.1%}".format(step, len(loader), loss, step / len(loader)))
    print(lines[-1], "lr=%g" % opt.param_groups[0]["lr"], round(loss.item(), 5), f"{loss:08.4f}")
print(f"{loss=}")
