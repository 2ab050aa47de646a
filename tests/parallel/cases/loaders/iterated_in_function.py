# The loader is iterated inside a function that another cell defined
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def get_dataloaders(batch_size):
    torch.manual_seed(99)
    x = torch.randn(70, 6)
    y = (x.sum(1) > 0).float().unsqueeze(1)
    return (
        DataLoader(TensorDataset(x[:50], y[:50]), batch_size=batch_size, shuffle=True),
        DataLoader(TensorDataset(x[50:], y[50:]), batch_size=batch_size),
    )


def train_one_epoch(model, loader, optimizer, loss_fn):
    model.train()
    total = 0.0
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(xb), yb)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    correct = total = 0
    for xb, yb in loader:
        pred = (torch.sigmoid(model(xb)) > 0.5).float()
        correct += (pred == yb).sum().item()
        total += yb.size(0)
    return correct / total
# %% train
train_dl, val_dl = get_dataloaders(12)
net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 1))
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
results = {"loss": [], "acc": []}
for epoch in range(4):
    results["loss"].append(train_one_epoch(net, train_dl, opt, nn.BCEWithLogitsLoss()))
    results["acc"].append(evaluate(net, val_dl))
    print(f"Epoch {epoch + 1}/4 - loss: {results['loss'][-1]:.6f} - val_acc: {results['acc'][-1]:.4f}")
