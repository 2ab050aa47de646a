# Two optimizers over two parts of one model, stepped at different rates
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
encoder = nn.Sequential(nn.Linear(6, 10), nn.ReLU())
classifier, decoder = nn.Linear(10, 3), nn.Linear(10, 6)
opt_main = torch.optim.SGD([*encoder.parameters(), *classifier.parameters()], lr=0.1)
opt_dec = torch.optim.SGD(decoder.parameters(), lr=0.05, momentum=0.9)
ds = TensorDataset(torch.randn(44, 6), torch.randint(0, 3, (44,)))
for step, (x, y) in enumerate(DataLoader(ds, batch_size=7, shuffle=True)):
    h = encoder(x)
    loss_cls = nn.functional.cross_entropy(classifier(h), y)
    loss_rec = nn.functional.mse_loss(decoder(h.detach()), x)
    opt_main.zero_grad()
    loss_cls.backward()
    opt_main.step()
    loss_rec.backward()
    if step % 2:
        opt_dec.step()
        opt_dec.zero_grad()
    print(f"{loss_cls.item():.6f} {loss_rec.item():.6f}")
