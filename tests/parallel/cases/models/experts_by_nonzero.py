# a mixture of experts without an auxiliary loss: masks and branches inside, rows outside
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class MoE(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(6, 3)
        self.experts = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        p = self.gate(x).softmax(-1)
        w, which = p.max(-1)
        out = torch.zeros_like(x)
        for e, expert in enumerate(self.experts):
            rows = torch.nonzero(which == e).squeeze(1)
            out = out.index_add(0, rows, w[rows].unsqueeze(-1) * expert(x[rows]))
        return self.head(out)


torch.manual_seed(0)
ds = TensorDataset(torch.randn(45, 6), torch.randint(0, 2, (45,)))
model = MoE()
opt = torch.optim.SGD(model.parameters(), lr=0.2)
for epoch in range(2):
    for x, y in DataLoader(ds, batch_size=9, shuffle=True):
        loss = F.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(f"{loss.item():.6f}")
