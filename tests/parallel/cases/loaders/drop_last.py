# drop_last=True, an average over len(loader)
import torch
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ds = TensorDataset(torch.randn(59, 3), torch.randn(59))
dl = DataLoader(ds, batch_size=8, shuffle=True, drop_last=True)
lin = torch.nn.Linear(3, 1)
opt = torch.optim.SGD(lin.parameters(), lr=0.01)
for ep in range(3):
    s = 0
    for xb, yb in dl:
        assert xb.shape[0] == 8
        loss = ((lin(xb).squeeze() - yb) ** 2).mean()
        loss.backward()
        opt.step()
        opt.zero_grad()
        s += loss.item()
    print("epoch", ep, "mse", round(s / len(dl), 7))
