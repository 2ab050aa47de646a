# Strings and file names in the batch, printed and looked up
import torch
from torch.utils.data import DataLoader, Dataset


class Files(Dataset):
    def __init__(self):
        torch.manual_seed(11)
        self.values = torch.randn(23, 5)

    def __len__(self):
        return 23

    def __getitem__(self, index):
        return self.values[index], f"img_{index:03}.png", index % 4


files = Files()
loader = DataLoader(files, batch_size=6, shuffle=True)
model = torch.nn.Linear(5, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
worst = {}
for epoch in range(2):
    for data, names, target in loader:
        optimizer.zero_grad()
        losses = torch.nn.functional.cross_entropy(model(data), target, reduction="none")
        losses.mean().backward()
        optimizer.step()
        for name, value in zip(names, losses):
            worst[name] = value.item()
    name = max(worst, key=worst.get)
    print(epoch, len(worst), name, f"{worst[name]:.6f}")
print(names)
