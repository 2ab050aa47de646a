# numpy arrays, np.random.permutation, torch.from_numpy per batch
import numpy as np
import torch

np.random.seed(0)
torch.manual_seed(0)
X = np.random.randn(66, 5).astype("float32")
Y = (X[:, 0] > X[:, 1]).astype("int64")
model = torch.nn.Sequential(torch.nn.Linear(5, 10), torch.nn.Tanh(), torch.nn.Linear(10, 2))
loss_function = torch.nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
batch = 10
for epoch in range(3):
    order = np.random.permutation(len(X))
    losses, hits = [], 0
    for start in range(0, len(X), batch):
        rows = order[start : start + batch]
        xb = torch.from_numpy(X[rows])
        yb = torch.from_numpy(Y[rows])
        out = model(xb)
        loss = loss_function(out, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach().numpy())
        hits += np.sum(out.argmax(dim=1).numpy() == Y[rows])
    print("epoch", epoch, "loss %.6f acc %.4f" % (np.mean(losses), hits / len(X)))
