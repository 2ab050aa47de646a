# Preprocessing in the loop: normalise, flatten, permute, one-hot, concatenate, pad, noise, type changes
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
images = (torch.rand(37, 4, 4, 3) * 255).to(torch.uint8)
loader = DataLoader(TensorDataset(images, torch.randint(0, 3, (37,))), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
opt = torch.optim.SGD(model.parameters(), lr=0.05)
mean = torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)
for epoch in range(2):
    for x, y in loader:
        x = x.float().div(255).permute(0, 3, 1, 2).contiguous()
        x = (x - mean) / 0.25
        x = torch.cat([x, x.mean(dim=1, keepdim=True)], dim=1)
        x = F.pad(x, (1, 1, 1, 1)) + 0.01 * torch.randn_like(F.pad(x, (1, 1, 1, 1)))
        target = F.one_hot(y, 3).to(x.dtype)
        out = model(x)
        loss = F.mse_loss(out.softmax(1), target) + F.cross_entropy(out, target)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, tuple(x.shape), f"{loss.item():.6f} {x.norm().item():.4f} {target.sum(0).tolist()}")
