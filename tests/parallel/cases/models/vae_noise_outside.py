# VAE with encode and decode called one by one; the noise is drawn in the cell
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(16, 12)
        self.fc21 = nn.Linear(12, 3)
        self.fc22 = nn.Linear(12, 3)
        self.fc3 = nn.Linear(3, 12)
        self.fc4 = nn.Linear(12, 16)

    def encode(self, x):
        h1 = torch.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def decode(self, z):
        return torch.sigmoid(self.fc4(torch.relu(self.fc3(z))))


def loss_function(recon_x, x, mu, logvar):
    BCE = nn.functional.binary_cross_entropy(recon_x, x.view(-1, 16), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD


torch.manual_seed(1)
loader = DataLoader(TensorDataset(torch.rand(37, 1, 4, 4)), batch_size=10, shuffle=True)
model = VAE()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for epoch in range(2):
    train_loss = 0
    for (data,) in loader:
        optimizer.zero_grad()
        mu, logvar = model.encode(data.view(-1, 16))
        std = torch.exp(0.5 * logvar)
        z = mu + torch.randn_like(std) * std
        recon_batch = model.decode(z)
        loss = loss_function(recon_batch, data, mu, logvar)
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
    print("====> Epoch: {} Average loss: {:.4f}".format(epoch, train_loss / len(loader.dataset)))
with torch.no_grad():
    sample = model.decode(torch.randn(4, 3))
print(sample.mean())
