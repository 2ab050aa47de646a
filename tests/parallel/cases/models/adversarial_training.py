# FGSM: gradients with respect to a batch of the loader, then training on the attacked batch
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X = torch.randn(37, 5)
loader = DataLoader(TensorDataset(X, (X.sum(1) > 0).long()), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 2))
opt = torch.optim.SGD(model.parameters(), lr=0.2)
epsilon = 0.1
for epoch in range(2):
    robust = 0
    for data, target in loader:
        data.requires_grad = True
        loss = nn.functional.cross_entropy(model(data), target)
        model.zero_grad()
        loss.backward()
        attacked = (data + epsilon * data.grad.sign()).detach()
        output = model(attacked)
        loss = nn.functional.cross_entropy(output, target)
        opt.zero_grad()
        loss.backward()
        opt.step()
        robust += (output.argmax(1) == target).sum().item()
    print(epoch, f"{loss.item():.6f}", robust / len(X))
