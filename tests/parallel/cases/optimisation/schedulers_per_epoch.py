# StepLR, then warm-up chained with exponential decay by SequentialLR
import torch
import torch.nn as nn
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, SequentialLR, StepLR
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
train_loader = DataLoader(TensorDataset(torch.randn(33, 3), torch.randn(33, 1)), batch_size=8, shuffle=True)
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scheduler = StepLR(optimizer, step_size=2, gamma=0.1)
warm = SequentialLR(
    optimizer, [LambdaLR(optimizer, lambda e: (e + 1) / 3), ExponentialLR(optimizer, 0.9)], milestones=[2]
)
for epoch in range(5):
    for data, target in train_loader:
        optimizer.zero_grad()
        loss = ((model(data) - target) ** 2).mean()
        loss.backward()
        optimizer.step()
    (scheduler if epoch < 2 else warm).step()
    print(epoch, optimizer.param_groups[0]["lr"], f"{loss.item():.6f}")
