# Adam, AdamW with amsgrad, NAdam, RAdam, RMSprop, Adagrad, Rprop: two steps each in double
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
loader = DataLoader(TensorDataset(torch.randn(21, 4), torch.randn(21, 2)), batch_size=8)
results = {}
for name, kw in [("Adam", {}), ("AdamW", {"amsgrad": True}), ("NAdam", {}), ("RAdam", {}), ("RMSprop", {"momentum": 0.9}), ("Adagrad", {}), ("Rprop", {}), ("Adamax", {})]:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    optimizer = getattr(torch.optim, name)(net.parameters(), lr=1e-3, **kw)
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.l1_loss(net(x), y)
        loss.backward()
        optimizer.step()
    results[name] = loss.item()
    print(f"{name:8s} {loss.item():.8f}")
