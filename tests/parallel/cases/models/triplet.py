# Triplet margin loss on three calls of one network; distances compared
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(3)
A, P, N = torch.randn(46, 8), torch.randn(46, 8), torch.randn(46, 8)
loader = DataLoader(TensorDataset(A, A + 0.3 * P, N), batch_size=13, shuffle=True)
embed = nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(), nn.Linear(16, 4))
criterion = nn.TripletMarginLoss(margin=1.0, p=2)
optimizer = torch.optim.SGD(embed.parameters(), lr=0.05)
for epoch in range(3):
    right = 0
    for anchor, positive, negative in loader:
        ea, ep, en = embed(anchor), embed(positive), embed(negative)
        loss = criterion(ea, ep, en)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right += ((ea - ep).norm(dim=1) < torch.norm(ea - en, dim=1)).sum().item()
    print(epoch, f"{loss.item():.6f} {right / len(A):.4f}")
