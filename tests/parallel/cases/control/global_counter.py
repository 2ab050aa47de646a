# global variables and closures changed by functions in the loop
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(30, 3), torch.randn(30, 1)), batch_size=7)
model = nn.Linear(3, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
global_step = 0
best_loss = 1e9
# %% train
def step(x, y):
    global global_step, best_loss
    loss = nn.functional.mse_loss(model(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    global_step += 1
    best_loss = min(best_loss, loss.item())


for _ in range(2):
    for x, y in loader:
        step(x, y)
print(global_step, f"{best_loss:.6f}")
# %% after
print(global_step, f"{best_loss:.6f}", model.weight.shape)
