# next(iter(loader)), an iterator that is renewed, and break in the middle
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(30, 4), torch.randn(30, 1)), batch_size=7, shuffle=True)
model = nn.Linear(4, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.1)

x, y = next(iter(loader))
print(x.shape, x.mean().item())

data_iter = iter(loader)
for iteration in range(11):
    try:
        x, y = next(data_iter)
    except StopIteration:
        data_iter = iter(loader)
        x, y = next(data_iter)
    loss = (model(x) - y).abs().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if iteration % 3 == 0:
        print(iteration, f"{loss.item():.6f}")

for i, (x, y) in enumerate(loader):
    if i == 2:
        break
print(i, x.sum().item())
