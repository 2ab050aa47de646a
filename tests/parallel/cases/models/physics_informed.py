# A physics-informed network: derivatives of the output with respect to the input, no loader
import torch
from torch import nn

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
t_boundary = torch.tensor(0.0).view(-1, 1).requires_grad_(True)
t_physics = torch.linspace(0, 1, 30).view(-1, 1).requires_grad_(True)
optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
for i in range(8):
    optimiser.zero_grad()
    u = net(t_boundary)
    loss1 = (torch.squeeze(u) - 1) ** 2
    u = net(t_physics)
    dudt = torch.autograd.grad(u, t_physics, torch.ones_like(u), create_graph=True)[0]
    d2udt2 = torch.autograd.grad(dudt, t_physics, torch.ones_like(dudt), create_graph=True)[0]
    loss2 = torch.mean((d2udt2 + 4 * dudt + 400 * u) ** 2)
    loss = loss1 + 1e-4 * loss2
    loss.backward()
    optimiser.step()
    print(i, f"{loss.item():.6f}")
