# Loader and model made in earlier cells, trained in this one, used in the next
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(17)
inputs = torch.randn(64, 5)
targets = inputs @ torch.randn(5, 2)
loader = DataLoader(TensorDataset(inputs, targets), batch_size=11, shuffle=True)
model = nn.Sequential(nn.Linear(5, 10), nn.ReLU(), nn.Linear(10, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
losses = []
# %% train
for epoch in range(3):
    for x, t in loader:
        optimizer.zero_grad()
        loss = ((model(x) - t) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"epoch {epoch}: {sum(losses[-len(loader):]) / len(loader):.6f}")
# %% after
model.eval()
with torch.no_grad():
    print(f"{nn.functional.mse_loss(model(inputs), targets).item():.6f}", len(losses), type(model[0].weight).__name__)
