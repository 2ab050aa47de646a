# a recurrent model that keeps its hidden state between batches
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(4, 6, batch_first=True), nn.Linear(6, 1)
        self.hidden = None

    def forward(self, x):
        y, h = self.rnn(x, self.hidden)
        self.hidden = h.detach()
        return self.out(y)


torch.manual_seed(0)
ds = TensorDataset(torch.randn(32, 7, 4), torch.randn(32, 7, 1))
model = Net()
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(2):
    model.hidden = None
    for x, y in DataLoader(ds, batch_size=8):
        loss = F.mse_loss(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(f"{loss.item():.6f} {model.hidden.sum().item():.6f}", model.hidden.shape)
