# Batches that are named tuples
from collections import namedtuple

import torch
from torch.utils.data import DataLoader, Dataset

Sample = namedtuple("Sample", ["image", "label"])


class Toy(Dataset):
    def __len__(self):
        return 22

    def __getitem__(self, i):
        return Sample(torch.full((3,), float(i) / 22), i % 2)


torch.manual_seed(0)
loader = DataLoader(Toy(), batch_size=5)
model = torch.nn.Linear(3, 2)
opt = torch.optim.SGD(model.parameters(), lr=0.5)
for batch in loader:
    logits = model(batch.image)
    loss = torch.nn.functional.cross_entropy(logits, batch.label)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(type(batch).__name__, batch._fields, f"{loss:.6f}")
