# An IterableDataset that streams lines
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset


class Stream(IterableDataset):
    def __init__(self, n):
        super().__init__()
        self.n = n

    def __iter__(self):
        g = torch.Generator().manual_seed(9)
        for _ in range(self.n):
            x = torch.randn(4, generator=g)
            yield x, x.sum().unsqueeze(0)


torch.manual_seed(9)
loader = DataLoader(Stream(47), batch_size=10)
net = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.05)
step = 0
for epoch in range(2):
    for x, y in loader:
        loss = nn.MSELoss()(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        step += 1
        print(step, x.shape[0], f"{loss.item():.6f}")
