# X[i:i+bs] over a permutation
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(10)
X_train = torch.randn(75, 8)
y_train = (X_train[:, 0] * X_train[:, 1] > 0).long()
n, batch_size = len(X_train), 16
net = nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 2))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(3):
    permutation = torch.randperm(n)
    epoch_loss = 0.0
    for i in range(0, n, batch_size):
        idx = permutation[i : i + batch_size]
        batch_x, batch_y = X_train[idx], y_train[idx]
        optimizer.zero_grad()
        loss = F.cross_entropy(net(batch_x), batch_y)
        loss.backward()
        optimizer.step()
        epoch_loss += loss.item() * len(idx)
    acc = (net(X_train).argmax(1) == y_train).float().mean()
    print(f"{epoch} {epoch_loss / n:.6f} {acc:.4f}")
