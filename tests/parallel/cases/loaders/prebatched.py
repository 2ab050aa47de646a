# batch_size=None: the dataset yields whole batches
import torch
from torch.utils.data import DataLoader, Dataset


class Batches(Dataset):
    def __init__(self):
        g = torch.Generator().manual_seed(0)
        self.x = torch.randn(6, 9, 3, generator=g)

    def __len__(self):
        return 6

    def __getitem__(self, i):
        return self.x[i], self.x[i].sum(1, keepdim=True)


torch.manual_seed(0)
loader = DataLoader(Batches(), batch_size=None, shuffle=True)
model = torch.nn.Linear(3, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.05)
for x, y in loader:
    loss = torch.nn.functional.mse_loss(model(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(tuple(x.shape), f"{loss.item():.6f}")
