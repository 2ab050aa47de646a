# Class weights, pos_weight, ignore_index and label smoothing
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
y = torch.randint(0, 4, (59,))
y[::7] = -1
ds = TensorDataset(torch.randn(59, 5), y, torch.randint(0, 2, (59, 2)).float())
model = nn.Linear(5, 6)
opt = torch.optim.SGD(model.parameters(), lr=0.2)
ce = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5, 4.0]), ignore_index=-1)
smooth = nn.CrossEntropyLoss(label_smoothing=0.1, ignore_index=-1)
both = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5, 4.0]), label_smoothing=0.2, ignore_index=-1)
bce = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0, 0.7]))
for epoch in range(2):
    for x, t, multi in DataLoader(ds, batch_size=13, shuffle=True):
        out = model(x)
        losses = [ce(out[:, :4], t), smooth(out[:, :4], t), both(out[:, :4], t), bce(out[:, 4:], multi)]
        loss = sum(losses)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(" ".join(f"{l.item():.6f}" for l in losses))
