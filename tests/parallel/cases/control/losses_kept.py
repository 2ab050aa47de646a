# list.append(loss.item()), losses.append(loss) as a tensor, torch.stack and np.mean at the end
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(40, 4), torch.randn(40, 1)), batch_size=9, shuffle=True)
model = nn.Linear(4, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.05)
numbers, tensors, detached, total = [], [], [], 0
for epoch in range(2):
    for x, y in loader:
        loss = nn.functional.mse_loss(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        numbers.append(loss.item())
        tensors.append(loss)
        detached.append(loss.detach().cpu().numpy())
        total += loss.data
print(f"{np.mean(numbers):.6f} {torch.stack(tensors).mean().item():.6f} {np.array(detached).mean():.6f} {total.item():.6f}")
print(torch.tensor(numbers).sum(), sum(tensors).item(), min(tensors).item())
print(f"first {tensors[0]:.4f} last {tensors[-1]}")
