# GRU with sequence-first input: the batch is dimension 1
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(5)
ds = TensorDataset(torch.randn(45, 7, 3), torch.randint(0, 2, (45,)))
loader = DataLoader(ds, batch_size=10, shuffle=True)
gru = nn.GRU(3, 9)
out = nn.Linear(9, 2)
opt = torch.optim.SGD(list(gru.parameters()) + list(out.parameters()), lr=0.1)
for epoch in range(2):
    for x, y in loader:
        x = x.transpose(0, 1)
        states, h = gru(x)
        logits = out(h.squeeze(0))
        loss = nn.functional.cross_entropy(logits, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, tuple(x.shape), tuple(states.shape), f"{loss.item():.6f}")
