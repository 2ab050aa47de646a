# reduction='sum' divided by the batch, reduction='none' weighted, a sum kept over the epoch
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
w = torch.rand(52)
ds = TensorDataset(torch.randn(52, 5), torch.randint(0, 3, (52,)), w)
model = nn.Linear(5, 3)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(2):
    epoch_sum = 0.0
    for x, y, weight in DataLoader(ds, batch_size=12, shuffle=True):
        out = model(x)
        summed = F.cross_entropy(out, y, reduction="sum")
        each = F.cross_entropy(out, y, reduction="none")
        loss = summed / x.shape[0] + (each * weight).sum() / weight.sum() + each.max()
        opt.zero_grad()
        loss.backward()
        opt.step()
        epoch_sum += each.detach().sum()
    print(f"{loss.item():.6f} {epoch_sum.item() / len(ds):.6f} {each.std().item():.6f}")
