# The model normalises over the batch that a loader gave it
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(30, 5), torch.randn(30, 1)), batch_size=8)


class Whitened(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Linear(5, 1)

    def forward(self, x):
        x = (x - x.mean(0)) / (x.std(0) + 1e-5)
        return self.f(x)


model = Whitened()
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in loader:
    loss = nn.functional.mse_loss(model(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.6f}")
