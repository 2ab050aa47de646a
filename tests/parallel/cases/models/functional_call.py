# torch.func: functional_call, grad and an update of a dict of parameters
import torch
from torch import nn
from torch.func import functional_call, grad_and_value

torch.manual_seed(0)
X, Y = torch.randn(40, 3), torch.randn(40, 1)
net = nn.Sequential(nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, 1))
params = {k: v.detach().clone() for k, v in net.named_parameters()}


def compute_loss(params, x, y):
    return ((functional_call(net, params, (x,)) - y) ** 2).mean()


for epoch in range(3):
    for i in range(0, 40, 12):
        grads, loss = grad_and_value(compute_loss)(params, X[i : i + 12], Y[i : i + 12])
        params = {k: p - 0.1 * grads[k] for k, p in params.items()}
    print(epoch, f"{loss.item():.6f}")
