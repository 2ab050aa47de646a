# Stochastic weight averaging with update_bn
import torch
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
loader = DataLoader(TensorDataset(torch.randn(38, 4), torch.randn(38, 1)), batch_size=9, shuffle=True)
model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
swa_model = AveragedModel(model)
swa_scheduler = SWALR(optimizer, swa_lr=0.02, anneal_epochs=2)
for epoch in range(4):
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    if epoch > 1:
        swa_model.update_parameters(model)
        swa_scheduler.step()
    print(epoch, f"{loss.item():.6f}")
update_bn(loader, swa_model)
swa_model.eval()
print(f"{sum(nn.functional.mse_loss(swa_model(x), y, reduction='sum').item() for x, y in loader):.6f}")
