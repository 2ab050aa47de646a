# Scores are exact: equal counts give equal bits, so `acc > best_acc` takes no tie for progress
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X = torch.randn(90, 6)
loader = DataLoader(TensorDataset(X, (X[:, 0] > 0.3).long()), batch_size=14)
model = nn.Linear(6, 2)
best, improved, bits = 0.0, 0, []
with torch.no_grad():
    for trial in range(12):
        nn.init.normal_(model.weight)
        corrects, mean_acc, per_batch = 0, 0.0, []
        for x, y in loader:
            preds = model(x).argmax(1)
            corrects += torch.sum(preds == y)
            per_batch.append((preds == y).float().mean())
            mean_acc += (preds == y).double().mean().item()
        acc = corrects.double() / len(X)
        if acc > best:
            best, improved = acc, improved + 1
        bits.append(acc.item().hex())
        bits.append(torch.stack(per_batch).mean().item().hex())
        bits.append((mean_acc / len(loader)).hex())
        bits.append((corrects.float() / len(X)).item().hex())
print(improved, f"{best:.6f}")
