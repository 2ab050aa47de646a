# the forward asks for gradients: physics inside the model, hooks and retain_grad on activations
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Force(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            e = self.net(x)
            (f,) = torch.autograd.grad(e.sum(), x, create_graph=True)
        return e, -f


class Cam(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 6), nn.Linear(6, 2)
        self.grad = None

    def save(self, g):
        self.grad = g

    def forward(self, x):
        h = self.a(x)
        if h.requires_grad:
            h.register_hook(self.save)
        return self.b(h.relu())


torch.manual_seed(0)
ds = TensorDataset(torch.randn(29, 3), torch.randn(29, 1), torch.randn(29, 3), torch.randint(0, 2, (29,)))
model, cam = Force(), Cam()
opt = torch.optim.SGD([*model.parameters(), *cam.parameters()], lr=0.1)
for x, e, f, y in DataLoader(ds, batch_size=8):
    pe, pf = model(x)
    loss = F.mse_loss(pe, e) + F.mse_loss(pf, f) + F.cross_entropy(cam(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.6f} {cam.grad.abs().sum().item():.6f}", cam.grad.shape)
