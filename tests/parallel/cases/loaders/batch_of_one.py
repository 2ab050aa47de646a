# batch_size=1, and a batch larger than the dataset
import torch
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(8)
ds = TensorDataset(torch.randn(9, 2), torch.randn(9, 1))
model = torch.nn.Linear(2, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.05)
for size in (1, 100):
    for x, y in DataLoader(ds, batch_size=size, shuffle=True):
        loss = torch.nn.functional.mse_loss(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(size, loss.item())
