# A model that returns a dict with loss and logits
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 10)
        self.head = nn.Linear(10, 3)

    def forward(self, x, labels=None):
        h = self.body(x).relu()
        out = {"logits": self.head(h), "hidden": h}
        if labels is not None:
            out["loss"] = nn.functional.cross_entropy(out["logits"], labels)
        return out


torch.manual_seed(0)
X = torch.randn(53, 6)
loader = DataLoader(TensorDataset(X, X[:, :3].argmax(1)), batch_size=12, shuffle=True)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    n_correct = 0
    for x, labels in loader:
        out = model(x, labels=labels)
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
        n_correct += (out["logits"].argmax(-1) == labels).sum().item()
    print(f"{epoch} {out['loss'].item():.6f} {n_correct} {out['hidden'].mean().item():.6f}")
