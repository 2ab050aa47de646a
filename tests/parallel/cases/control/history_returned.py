# A fit function that returns a history, inspected by the next cell
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def fit(model, train, val, epochs, lr):
    opt = torch.optim.SGD(model.parameters(), lr=lr)
    history = {"train_loss": [], "val_loss": [], "val_acc": []}
    for epoch in range(epochs):
        model.train()
        seen = total = 0
        for x, y in train:
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            opt.zero_grad()
            total += loss.item() * y.shape[0]
            seen += y.shape[0]
        model.eval()
        with torch.inference_mode():
            outs = [(model(x), y) for x, y in val]
            val_loss = torch.stack([nn.functional.cross_entropy(o, y) for o, y in outs]).mean().item()
            val_acc = torch.cat([o.argmax(1) == y for o, y in outs]).float().mean().item()
        history["train_loss"].append(total / seen)
        history["val_loss"].append(val_loss)
        history["val_acc"].append(val_acc)
    return history


torch.manual_seed(0)
X = torch.randn(80, 4)
Y = (X[:, 0] + X[:, 1] > 0).long()
train = DataLoader(TensorDataset(X[:55], Y[:55]), 12, shuffle=True)
val = DataLoader(TensorDataset(X[55:], Y[55:]), 12)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
# %% train
history = fit(model, train, val, epochs=3, lr=0.2)
# %% after
for name, values in history.items():
    print(name, [round(v, 5) for v in values])
