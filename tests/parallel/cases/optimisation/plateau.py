# ReduceLROnPlateau on the validation loss
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X, Y = torch.randn(60, 5), torch.randn(60, 1)
train_dl = DataLoader(TensorDataset(X[:40], Y[:40]), batch_size=9, shuffle=True)
valid_dl = DataLoader(TensorDataset(X[40:], Y[40:]), batch_size=9)
model = nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
for epoch in range(5):
    model.train()
    for xb, yb in train_dl:
        loss = nn.functional.mse_loss(model(xb), yb)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        losses, nums = zip(*[(nn.functional.mse_loss(model(xb), yb), len(xb)) for xb, yb in valid_dl])
    val_loss = sum(l * n for l, n in zip(losses, nums)) / sum(nums)
    scheduler.step(val_loss)
    print(epoch, f"{val_loss:.6f}", optimizer.param_groups[0]["lr"])
