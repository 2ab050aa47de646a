# Early stopping and the best weights by the validation loss
import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X = torch.randn(90, 6)
Y = (X[:, 0] * X[:, 1] > 0).long()
train_loader = DataLoader(TensorDataset(X[:60], Y[:60]), batch_size=13, shuffle=True)
val_loader = DataLoader(TensorDataset(X[60:], Y[60:]), batch_size=13)
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
opt = torch.optim.SGD(model.parameters(), lr=0.5)
best, best_state, patience, bad = float("inf"), None, 2, 0
for epoch in range(30):
    model.train()
    for x, y in train_loader:
        opt.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        opt.step()
    model.eval()
    with torch.no_grad():
        val = sum(nn.functional.cross_entropy(model(x), y, reduction="sum").item() for x, y in val_loader) / 30
    if val < best:
        best, best_state, bad = val, copy.deepcopy(model.state_dict()), 0
    else:
        bad += 1
        if bad > patience:
            print("Early stopping at", epoch)
            break
    print(epoch, f"{val:.6f}", bad)
model.load_state_dict(best_state)
print(f"best {best:.6f}")
