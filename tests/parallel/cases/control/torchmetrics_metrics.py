# torchmetrics updated batch by batch, computed per epoch
#: needs torchmetrics
import torch
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X = torch.randn(71, 5)
Y = X[:, :3].argmax(1)
loader = DataLoader(TensorDataset(X, Y), batch_size=15, shuffle=True)
model = nn.Linear(5, 3)
opt = torch.optim.SGD(model.parameters(), lr=0.2)
acc = torchmetrics.Accuracy(task="multiclass", num_classes=3)
f1 = torchmetrics.F1Score(task="multiclass", num_classes=3, average="macro")
cm = torchmetrics.ConfusionMatrix(task="multiclass", num_classes=3)
mean_loss = torchmetrics.MeanMetric()
for epoch in range(2):
    for x, y in loader:
        out = model(x)
        loss = nn.functional.cross_entropy(out, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        batch_acc = acc(out, y)
        f1.update(out.argmax(1), y)
        cm.update(out, y)
        mean_loss.update(loss.item(), weight=len(x))
    print(f"{epoch} {mean_loss.compute():.6f} {acc.compute():.6f} {f1.compute():.6f}", cm.compute().tolist())
    for m in (acc, f1, cm, mean_loss):
        m.reset()
