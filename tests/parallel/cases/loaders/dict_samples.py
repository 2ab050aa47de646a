# Samples that are dicts, collated by default; numpy features and float targets
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class HousePrices(Dataset):
    def __init__(self):
        rng = np.random.default_rng(0)
        self.features = rng.normal(size=(52, 7)).astype(np.float32)
        self.price = (self.features.sum(1) * 2 + 3).astype(np.float32)

    def __len__(self):
        return len(self.features)

    def __getitem__(self, idx):
        return {"x": self.features[idx], "y": self.price[idx], "weight": 1.0 + idx % 2}


torch.manual_seed(1)
loader = DataLoader(HousePrices(), batch_size=15, shuffle=True)
model = torch.nn.Sequential(torch.nn.Linear(7, 14), torch.nn.ReLU(), torch.nn.Linear(14, 1))
opt = torch.optim.SGD(model.parameters(), lr=0.01)
for epoch in range(3):
    for sample in loader:
        pred = model(sample["x"])[:, 0]
        loss = torch.mean(sample["weight"].float() * (pred - sample["y"]) ** 2)
        opt.zero_grad()
        loss.backward()
        opt.step()
    rmse = loss.sqrt().item()
    print(f"{epoch:02d} rmse={rmse:.6f}")
