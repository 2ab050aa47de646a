# Batch norm 1d and 3d, momentum=None, not affine, a frozen one in eval mode; InstanceNorm and GroupNorm
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(3)
torch.set_default_dtype(torch.float64)
loader = DataLoader(TensorDataset(torch.randn(27, 4, 2, 3, 3), torch.randn(27, 2)), batch_size=6)


class Norms(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn3d = nn.BatchNorm3d(4, momentum=None)
        self.inst = nn.InstanceNorm3d(4, affine=True)
        self.group = nn.GroupNorm(2, 4)
        self.fc = nn.Linear(4 * 18, 8)
        self.bn = nn.BatchNorm1d(8, affine=False)
        self.frozen = nn.BatchNorm1d(8)
        self.seq = nn.BatchNorm1d(2, track_running_stats=False)
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        x = self.group(self.inst(self.bn3d(x)).tanh())
        x = self.frozen(self.bn(self.fc(x.flatten(1))))
        x = self.seq(x.view(-1, 2, 4)).flatten(1)
        return self.out(torch.sigmoid(x))


model = Norms()
opt = torch.optim.SGD(model.parameters(), lr=0.05)
for epoch in range(2):
    model.train()
    model.frozen.eval()
    for x, y in loader:
        loss = nn.functional.mse_loss(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(f"{loss.item():.6f}", end=" ")
    print(model.bn3d.num_batches_tracked.item(), f"{model.bn.running_var.mean():.6f}")
