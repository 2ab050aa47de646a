# torch.save and load in the loop: best checkpoint, resume, and a file listing
import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X = torch.randn(50, 4)
loader = DataLoader(TensorDataset(X, X.sum(1, keepdim=True)), batch_size=9, shuffle=True)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
os.makedirs("checkpoints", exist_ok=True)
best = float("inf")
for epoch in range(4):
    for x, y in loader:
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if loss.item() < best:
        best = loss.item()
        torch.save({"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict(), "loss": loss}, "checkpoints/best.pt")
    torch.save(model.state_dict(), f"checkpoints/epoch_{epoch}.pt")
    print(epoch, f"{loss.item():.6f}", best == loss.item())
checkpoint = torch.load("checkpoints/best.pt", weights_only=False)
model.load_state_dict(checkpoint["model"])
optimizer.load_state_dict(checkpoint["optimizer"])
print(checkpoint["epoch"], f"{checkpoint['loss'].item():.6f}", os.path.exists("checkpoints/epoch_3.pt"))
