# A full-batch loop over plain tensors
import torch
from torch import nn

torch.manual_seed(0)
X = torch.randn(101, 4)
y = X @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]]) + 0.1 * torch.randn(101, 1)
model = nn.Linear(4, 1)
criterion = nn.MSELoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(20):
    y_pred = model(X)
    loss = criterion(y_pred, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if (epoch + 1) % 5 == 0:
        print(f"epoch {epoch + 1}, loss = {loss.item():.6f}")
with torch.no_grad():
    r2 = 1 - ((model(X) - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()
print(f"R2 {r2.item():.6f}")
