# Parameters that no step or only some steps use; a branch that depends on the epoch
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Branchy(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 4)
        self.b = nn.Linear(3, 4)
        self.never = nn.Linear(3, 4)
        self.out = nn.Linear(4, 1)

    def forward(self, x, use_b):
        return self.out(torch.relu(self.b(x) if use_b else self.a(x)))


torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(22, 3), torch.randn(22, 1)), batch_size=5)
model = Branchy()
opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for epoch in range(3):
    for i, (x, y) in enumerate(loader):
        loss = nn.functional.mse_loss(model(x, use_b=(i + epoch) % 2 == 0), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, f"{loss.item():.6f}", [p.grad is None for p in model.parameters()])
