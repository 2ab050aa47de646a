# np.random.choice draws each batch; the test set is evaluated in one go
import numpy as np
import torch
from sklearn.datasets import make_moons
#: needs sklearn

X, y = make_moons(n_samples=120, noise=0.1, random_state=0)
X_train, y_train = X[:90].astype(np.float32), y[:90].astype(np.float32)
X_test = torch.tensor(X[90:], dtype=torch.float32)
y_test = torch.tensor(y[90:], dtype=torch.float32)
torch.manual_seed(0)
np.random.seed(0)
net = torch.nn.Sequential(torch.nn.Linear(2, 24), torch.nn.ReLU(), torch.nn.Linear(24, 1), torch.nn.Sigmoid())
opt = torch.optim.RMSprop(net.parameters(), lr=1e-3)
BCE = torch.nn.BCELoss()
for it in range(1, 16):
    pick = np.random.choice(len(X_train), 14, replace=False)
    p = net(torch.tensor(X_train[pick])).ravel()
    loss = BCE(p, torch.tensor(y_train[pick]))
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 5 == 0:
        with torch.no_grad():
            acc = ((net(X_test).ravel() > 0.5) == y_test.bool()).float().mean()
        print(f"it {it:3d} | loss {loss:.6f} | test acc {acc:.3f}")
