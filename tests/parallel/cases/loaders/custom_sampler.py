# A sampler class of one's own: hardest samples first
import torch
from torch.utils.data import DataLoader, Dataset, Sampler


class Points(Dataset):
    def __init__(self, n):
        g = torch.Generator().manual_seed(5)
        self.x = torch.randn(n, 4, generator=g)
        self.t = self.x.pow(2).sum(1, keepdim=True)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.t[i]


class BySize(Sampler):
    def __init__(self, data):
        self.order = data.t.squeeze(1).argsort(descending=True).tolist()

    def __iter__(self):
        return iter(self.order)

    def __len__(self):
        return len(self.order)


torch.manual_seed(5)
data = Points(50)
loader = DataLoader(data, batch_size=7, sampler=BySize(data))
f = torch.nn.Sequential(torch.nn.Linear(4, 12), torch.nn.GELU(), torch.nn.Linear(12, 1))
opt = torch.optim.Adam(f.parameters(), lr=1e-3)
history = []
for x, t in loader:
    loss = torch.nn.functional.smooth_l1_loss(f(x), t)
    opt.zero_grad()
    loss.backward()
    opt.step()
    history.append(loss.item())
    print(round(history[-1], 6), end=" ")
print()
