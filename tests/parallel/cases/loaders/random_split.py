# random_split with a seeded generator, one loader with a generator of its own
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

X = torch.linspace(-2, 2, 77).unsqueeze(1)
Y = X**3
train_set, val_set = random_split(TensorDataset(X, Y), [60, 17], generator=torch.Generator().manual_seed(42))
g = torch.Generator()
g.manual_seed(0)
train_loader = DataLoader(train_set, batch_size=14, shuffle=True, generator=g)
val_loader = DataLoader(val_set, batch_size=14)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
train_losses, val_losses = [], []
for epoch in range(3):
    batch_losses = []
    for x_batch, y_batch in train_loader:
        model.train()
        yhat = model(x_batch)
        loss = nn.MSELoss(reduction="mean")(y_batch, yhat)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        batch_losses.append(loss.item())
    train_losses.append(sum(batch_losses) / len(batch_losses))
    with torch.no_grad():
        model.eval()
        val_losses.append(sum(nn.MSELoss()(model(x), y).item() for x, y in val_loader) / len(val_loader))
    print(f"[{epoch + 1}] Training loss: {train_losses[-1]:.6f}\t Validation loss: {val_losses[-1]:.6f}")
