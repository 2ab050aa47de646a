# The last batch has one sample: some ranks have none
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
data = TensorDataset(torch.randn(41, 4), torch.randint(0, 3, (41,)))
loader = DataLoader(data, batch_size=10)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
sizes = []
for epoch in range(2):
    for x, y in loader:
        opt.zero_grad()
        out = model(x)
        loss = nn.functional.cross_entropy(out, y)
        loss.backward()
        opt.step()
        sizes.append(len(x))
        print(len(x), f"{loss.item():.6f}", (out.argmax(1) == y).float().mean().item())
