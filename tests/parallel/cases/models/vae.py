# VAE that samples inside forward: statistically the same
#: statistical 0.1
#: ignore loss data recon mu logvar sample
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(16, 6)
        self.decoder = nn.Linear(3, 16)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def forward(self, x):
        mu, logvar = self.encoder(x.view(-1, 16)).chunk(2, 1)
        z = self.reparameterize(mu, logvar)
        return torch.sigmoid(self.decoder(z)), mu, logvar


torch.manual_seed(1)
loader = DataLoader(TensorDataset(torch.rand(200, 1, 4, 4)), batch_size=32, shuffle=True)
model = VAE()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for epoch in range(3):
    train_loss = 0
    for (data,) in loader:
        optimizer.zero_grad()
        recon, mu, logvar = model(data)
        BCE = nn.functional.binary_cross_entropy(recon, data.view(-1, 16), reduction="sum")
        loss = BCE - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
    print(f"{train_loss / len(loader.dataset):.3f}")
