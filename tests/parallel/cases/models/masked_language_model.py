# Masked tokens drawn from the batch in the loop, loss on the masked ones only
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randint(3, 20, (33, 8))), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 20))
opt = torch.optim.SGD(model.parameters(), lr=0.5)
for epoch in range(2):
    for (ids,) in loader:
        labels = ids.clone()
        masked = torch.bernoulli(torch.full(labels.shape, 0.3)).bool()
        labels[~masked] = -100
        ids[masked] = 2
        logits = model(ids)
        loss = nn.functional.cross_entropy(logits.view(-1, 20), labels.view(-1))
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, f"{loss.item():.6f}", int(masked.sum()))
