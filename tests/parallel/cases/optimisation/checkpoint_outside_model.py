# torch.utils.checkpoint: reentrant, around the model, sequential, with dropout off and batch norm
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ds = TensorDataset(torch.randn(29, 5), torch.randint(0, 3, (29,)))
model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.BatchNorm1d(8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in DataLoader(ds, batch_size=8):
    a = checkpoint(model, x, use_reentrant=False)
    b = checkpoint_sequential(model, 2, x, use_reentrant=False)
    c = checkpoint(model[:2], x.detach().requires_grad_(), use_reentrant=True)
    loss = F.cross_entropy(a, y) + F.cross_entropy(b, y) + c.pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.6f}")
