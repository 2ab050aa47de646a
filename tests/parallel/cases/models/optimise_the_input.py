# Style transfer's shape: the image is the parameter, the network is frozen
import torch
from torch import nn

torch.manual_seed(0)
features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)).eval()
for p in features.parameters():
    p.requires_grad_(False)
content = torch.rand(1, 1, 10, 10)
target = features(content).detach()
image = torch.rand(1, 1, 10, 10).requires_grad_(True)
optimizer = torch.optim.SGD([image], lr=1.0)


def gram(f):
    b, c, h, w = f.shape
    f = f.view(c, h * w)
    return f @ f.t() / (c * h * w)


for step in range(8):
    optimizer.zero_grad()
    f = features(image)
    loss = nn.functional.mse_loss(f, target) + nn.functional.mse_loss(gram(f), gram(target))
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        image.clamp_(0, 1)
print(f"{loss.item():.6f} {image.mean().item():.6f}")
