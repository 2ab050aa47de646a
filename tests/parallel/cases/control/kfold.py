# k-fold cross validation with sklearn's KFold and SubsetRandomSampler
#: needs sklearn
import numpy as np
import torch
from sklearn.model_selection import KFold
from torch import nn
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

torch.manual_seed(42)
X = torch.randn(50, 5)
dataset = TensorDataset(X, (X[:, 0] > 0).long())


def reset_weights(m):
    for layer in m.children():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()


scores = {}
for fold, (train_ids, test_ids) in enumerate(KFold(n_splits=3, shuffle=True, random_state=0).split(np.arange(50))):
    trainloader = DataLoader(dataset, batch_size=9, sampler=SubsetRandomSampler(train_ids))
    testloader = DataLoader(dataset, batch_size=9, sampler=SubsetRandomSampler(test_ids))
    network = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
    network.apply(reset_weights)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for x, y in trainloader:
        optimizer.zero_grad()
        loss = nn.CrossEntropyLoss()(network(x), y)
        loss.backward()
        optimizer.step()
    correct, total = 0, 0
    with torch.no_grad():
        for x, y in testloader:
            correct += (network(x).argmax(1) == y).sum().item()
            total += y.size(0)
    scores[fold] = 100.0 * correct / total
    print(f"FOLD {fold} {loss.item():.6f} {scores[fold]:.4f}")
