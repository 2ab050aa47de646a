# Sequence-first tensors handed to the model without a loader: must not be split along time
import torch
from torch import nn

torch.manual_seed(5)
X = torch.randn(12, 9, 4)
T = torch.randn(12, 9, 1)


class Seq(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(4, 6)
        self.out = nn.Linear(6, 1)

    def forward(self, x):
        h, _ = self.rnn(x)
        return self.out(h)


model = Seq()
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for i in range(6):
    opt.zero_grad()
    loss = nn.functional.mse_loss(model(X), T)
    loss.backward()
    opt.step()
    print(i, f"{loss.item():.6f}")
