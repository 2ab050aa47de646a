# Leaving a loader's loop by the value of a batch's loss, for-else, continue
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(64, 3), torch.randn(64, 1)), batch_size=7, shuffle=True)
model = nn.Linear(3, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
skipped = 0
for epoch in range(6):
    for i, (x, y) in enumerate(loader):
        loss = nn.functional.mse_loss(model(x), y)
        if loss > 1.5:
            skipped += 1
            continue
        opt.zero_grad()
        loss.backward()
        opt.step()
        if loss.item() < 0.5:
            print("epoch", epoch, "left at", i, f"{loss.item():.6f}")
            break
    else:
        print("epoch", epoch, "whole", f"{loss.item():.6f}")
print(skipped)
