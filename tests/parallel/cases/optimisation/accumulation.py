# Accumulation over several batches, the last group incomplete
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(53, 6), torch.randint(0, 3, (53,))), batch_size=6, shuffle=True)
model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
accumulation_steps = 4
optimizer.zero_grad()
for epoch in range(2):
    for i, (inputs, labels) in enumerate(loader):
        loss = nn.functional.cross_entropy(model(inputs), labels) / accumulation_steps
        loss.backward()
        if (i + 1) % accumulation_steps == 0 or i + 1 == len(loader):
            total_norm = sum(p.grad.norm() ** 2 for p in model.parameters()) ** 0.5
            optimizer.step()
            optimizer.zero_grad()
            print(i, f"{loss.item() * accumulation_steps:.6f} {total_norm.item():.6f}")
