# Transfer learning: a frozen backbone, a new head, parameters filtered
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
for param in backbone.parameters():
    param.requires_grad = False


class Transfer(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(16, 2)

    def forward(self, x):
        return self.fc(self.backbone(x))


model = Transfer(backbone)
print(sum(p.numel() for p in model.parameters() if p.requires_grad), "trainable")
loader = DataLoader(TensorDataset(torch.randn(35, 1, 6, 6), torch.randint(0, 2, (35,))), batch_size=8, shuffle=True)
optimizer = torch.optim.SGD(filter(lambda p: p.requires_grad, model.parameters()), lr=0.1)
for epoch in range(2):
    model.train()
    for x, y in loader:
        with torch.set_grad_enabled(True):
            outputs = model(x)
            _, preds = torch.max(outputs, 1)
            loss = nn.CrossEntropyLoss()(outputs, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"{loss.item():.6f}", torch.sum(preds == y.data).item())
for param in model.backbone[0].parameters():
    param.requires_grad = True
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for x, y in loader:
    loss = nn.CrossEntropyLoss()(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"{loss.item():.6f}")
