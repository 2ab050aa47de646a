# X.split and zip
import torch
from torch import nn

torch.manual_seed(2)
X, Y = torch.randn(50, 6), torch.randn(50, 2)
model = nn.Sequential(nn.Linear(6, 6), nn.Sigmoid(), nn.Linear(6, 2))
opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
for epoch in range(3):
    for xb, yb in zip(X.split(8), Y.split(8)):
        opt.zero_grad()
        loss = (model(xb) - yb).pow(2).sum() / len(xb)
        loss.backward()
        opt.step()
    print(epoch, loss.item())
for xb in torch.chunk(X, 3):
    print(xb.shape, f"{model(xb).mean().item():.6f}")
