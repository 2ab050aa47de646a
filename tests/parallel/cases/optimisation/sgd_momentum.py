# SGD with Nesterov momentum, dampening and weight decay in parameter groups
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(5, 10), nn.LayerNorm(10), nn.ReLU(), nn.Linear(10, 1))
decay = [p for n, p in model.named_parameters() if p.dim() > 1]
no_decay = [p for n, p in model.named_parameters() if p.dim() <= 1]
optimizer = torch.optim.SGD(
    [{"params": decay, "weight_decay": 1e-2}, {"params": no_decay, "lr": 0.01}], lr=0.05, momentum=0.9, nesterov=True
)
loader = DataLoader(TensorDataset(torch.randn(47, 5), torch.randn(47, 1)), batch_size=10, shuffle=True)
for epoch in range(3):
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    print(epoch, f"{loss.item():.6f}", [g["lr"] for g in optimizer.param_groups])
