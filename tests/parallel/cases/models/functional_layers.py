# F.conv2d and F.linear on raw weights, batches from a loader
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
kernel = (0.2 * torch.randn(3, 1, 3, 3)).requires_grad_()
weight = (0.2 * torch.randn(2, 3 * 4 * 4)).requires_grad_()
bias = torch.zeros(2, requires_grad=True)
params = [kernel, weight, bias]
opt = torch.optim.SGD(params, lr=0.1)
ds = TensorDataset(torch.randn(25, 1, 6, 6), torch.randint(0, 2, (25,)))
for x, y in DataLoader(ds, batch_size=7):
    h = F.relu(F.conv2d(x, kernel))
    logits = F.linear(h.reshape(len(x), -1), weight, bias)
    loss = F.cross_entropy(logits, y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.6f} {kernel.grad.norm().item():.6f}")
