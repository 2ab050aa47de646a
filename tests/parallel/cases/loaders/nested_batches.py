# Nested tuples and lists in a batch, made by the default collate
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Pairs(Dataset):
    def __len__(self):
        return 41

    def __getitem__(self, i):
        g = torch.Generator().manual_seed(i)
        image = torch.randn(2, 4, 4, generator=g)
        return (image, {"angle": float(i) / 41, "id": i}), [i % 2, image.mean()]


torch.manual_seed(0)
loader = DataLoader(Pairs(), batch_size=9)
conv = nn.Conv2d(2, 3, 3)
fc = nn.Linear(13, 2)
params = list(conv.parameters()) + list(fc.parameters())
optim = torch.optim.SGD(params, lr=0.02)
for (images, meta), (labels, means) in loader:
    h = conv(images).relu().flatten(1)
    h = torch.cat([h, meta["angle"].float().unsqueeze(1)], dim=1)
    logits = fc(h)
    loss = nn.functional.cross_entropy(logits, labels) + (logits[:, 0] - means).pow(2).mean()
    optim.zero_grad()
    loss.backward()
    optim.step()
    print(f"{loss.item():.6f}", meta["id"].max().item())
