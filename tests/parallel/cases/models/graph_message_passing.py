# Message passing with index_add_ over an edge list
import torch
from torch import nn

torch.manual_seed(1)
x = torch.randn(18, 4)
edge_index = torch.randint(0, 18, (2, 40))
y = torch.randn(18)


class MessagePassing(nn.Module):
    def __init__(self):
        super().__init__()
        self.msg = nn.Linear(8, 6)
        self.upd = nn.Linear(10, 1)

    def forward(self, x, edge_index):
        src, dst = edge_index
        m = torch.relu(self.msg(torch.cat([x[src], x[dst]], dim=1)))
        agg = torch.zeros(x.size(0), 6).index_add_(0, dst, m)
        return self.upd(torch.cat([x, agg], 1)).squeeze(-1)


model = MessagePassing()
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(5):
    opt.zero_grad()
    loss = torch.mean((model(x, edge_index) - y) ** 2)
    loss.backward()
    opt.step()
    print(step, f"{loss.item():.6f}")
