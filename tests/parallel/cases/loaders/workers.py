# num_workers=2 with persistent workers, a Dataset class of the notebook
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Waves(Dataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        t = torch.linspace(0, 1, 20)
        return torch.sin(t * (1 + i % 5)), i % 5


torch.manual_seed(0)
train_dl = DataLoader(Waves(61), batch_size=12, shuffle=True, num_workers=2, persistent_workers=True)
val_dl = DataLoader(Waves(25), batch_size=25, num_workers=1)
model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 5))
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(2):
    model.train()
    for x, y in train_dl:
        loss = nn.functional.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    model.eval()
    with torch.no_grad():
        correct = sum((model(x).argmax(1) == y).sum().item() for x, y in val_dl)
    print(epoch, f"{loss.item():.6f}", correct)
