# Predictions kept batch by batch: torch.cat, tolist, numpy, dict by index, sorted by confidence
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X = torch.randn(47, 4)
ids = torch.arange(47)
loader = DataLoader(TensorDataset(X, X.argmax(1), ids), batch_size=10, shuffle=True)
model = nn.Linear(4, 4)
opt = torch.optim.SGD(model.parameters(), lr=0.2)
all_logits, all_targets, listed, arrays, by_id = [], [], [], [], {}
for x, y, i in loader:
    out = model(x)
    loss = nn.functional.cross_entropy(out, y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    all_logits.append(out.detach())
    all_targets.append(y)
    listed += out.argmax(1).tolist()
    arrays.append(out.softmax(1).max(1).values.detach().numpy())
    by_id.update(zip(i.tolist(), out.detach().max(dim=1)[0].tolist()))
logits, targets = torch.cat(all_logits), torch.cat(all_targets)
confidence = np.concatenate(arrays)
print(logits.shape, (logits.argmax(1) == targets).float().mean().item(), len(listed), confidence.shape)
order = np.argsort(-confidence)[:3]
print(confidence[order].round(6), sum(by_id.values()) / len(by_id), sorted(by_id)[-1])
top = logits.softmax(1).topk(2, dim=1).indices
