# matplotlib in the loop and at the end, savefig and show
#: needs matplotlib
#: ignore fig ax axes
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.rand(36, 1), torch.rand(36, 1)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
losses = []
for epoch in range(2):
    for x, y in loader:
        loss = nn.functional.mse_loss(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    fig, ax = plt.subplots()
    ax.scatter(x.numpy(), y.numpy())
    ax.plot(x.detach().cpu().numpy(), model(x).data.numpy(), "r")
    ax.set_title(f"epoch {epoch} loss {loss.item():.4f}")
    plt.savefig(f"epoch{epoch}.png")
    plt.show()
    plt.close(fig)
plt.plot(losses)
plt.xlabel("step")
plt.show()
points = len(ax.lines[0].get_xdata())
print(points, f"{losses[-1]:.6f}")
