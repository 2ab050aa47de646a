# an embedding with max_norm, which the forward changes in place; weights clamped in the forward
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(12, 4, max_norm=0.9)
        self.out = nn.Linear(4, 1)

    def forward(self, x):
        with torch.no_grad():
            self.out.weight.clamp_(-0.3, 0.3)
        return self.out(self.emb(x).mean(1)).squeeze(1)


torch.manual_seed(0)
ds = TensorDataset(torch.randint(0, 12, (29, 3)), torch.randn(29))
model = Net()
opt = torch.optim.SGD(model.parameters(), lr=0.5)
for x, y in DataLoader(ds, batch_size=6):
    loss = F.mse_loss(model(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.6f} {model.emb.weight.norm().item():.6f}")
