# Segmentation: per-pixel cross entropy, ignore_index, pixel accuracy, IoU
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
images = torch.randn(26, 1, 8, 8)
masks = (images.squeeze(1) > 0.3).long()
masks[:, 0, :2] = 255
loader = DataLoader(TensorDataset(images, masks), batch_size=6, shuffle=True)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(1, 4, 3, padding=1)
        self.mid = nn.Conv2d(4, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        d = F.relu(self.down(x))
        m = F.relu(self.mid(F.max_pool2d(d, 2)))
        return self.out(torch.cat([self.up(m), d], dim=1))


model = UNet()
opt = torch.optim.SGD(model.parameters(), lr=0.1)
criterion = nn.CrossEntropyLoss(ignore_index=255)
for epoch in range(2):
    inter = torch.zeros(2)
    union = torch.zeros(2)
    for image, mask in loader:
        logits = model(image)
        loss = criterion(logits, mask)
        opt.zero_grad()
        loss.backward()
        opt.step()
        pred = logits.argmax(1)
        valid = mask != 255
        for c in range(2):
            inter[c] += ((pred == c) & (mask == c) & valid).sum()
            union[c] += (((pred == c) | (mask == c)) & valid).sum()
    pixel = (pred[valid] == mask[valid]).float().mean()
    print(f"{epoch} {loss.item():.6f} IoU {(inter / union).tolist()} pixel acc {pixel.item():.4f}")
