# Dropout on: the masks differ by rank, the course of training is statistically the same
#: statistical 0.3
#: ignore loss x y accuracy
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X = torch.randn(400, 10)
Y = (X[:, 0] - X[:, 1] > 0).long()
loader = DataLoader(TensorDataset(X, Y), batch_size=50, shuffle=True)
model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 2))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(4):
    total = 0.0
    for x, y in loader:
        loss = nn.functional.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
    print(f"{total / len(loader):.4f}")
model.eval()
accuracy = (model(X).argmax(1) == Y).float().mean().item()
print(f"{accuracy:.2f}")
