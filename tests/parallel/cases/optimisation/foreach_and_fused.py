# foreach=True, fused=True
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(30, 4), torch.randn(30, 1)), batch_size=7)
for options in ({"foreach": True}, {"fused": True}):
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, **options)
    for x, y in loader:
        loss = (net(x) - y).pow(2).mean()
        opt.zero_grad(set_to_none=False)
        loss.backward()
        opt.step()
    print(options, f"{loss.item():.6f}")
