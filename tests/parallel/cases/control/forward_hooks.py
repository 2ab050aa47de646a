# Activations collected by forward hooks, the embedding of a whole set
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(33, 4), torch.randint(0, 2, (33,))), batch_size=8)
model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
activation = {}


def get_activation(name):
    def hook(model, input, output):
        activation[name] = output.detach()

    return hook


handle = model[1].register_forward_hook(get_activation("relu"))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
features = []
for x, y in loader:
    loss = nn.functional.cross_entropy(model(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    features.append(activation["relu"])
    print(tuple(activation["relu"].shape), f"{activation['relu'].mean().item():.6f} {loss.item():.6f}")
handle.remove()
features = torch.cat(features)
print(features.shape)
