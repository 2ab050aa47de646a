# A confusion matrix by indexing, bincount and zip over the batch
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X = torch.randn(83, 5)
Y = X[:, :3].argmax(1)
loader = DataLoader(TensorDataset(X, Y), batch_size=14)
model = nn.Linear(5, 3)
opt = torch.optim.SGD(model.parameters(), lr=0.3)
for x, y in loader:
    opt.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    opt.step()
classes = ("cat", "dog", "ship")
correct_pred = {classname: 0 for classname in classes}
total_pred = {classname: 0 for classname in classes}
confusion = torch.zeros(3, 3, dtype=torch.int64)
counts = torch.zeros(3, dtype=torch.int64)
with torch.no_grad():
    for images, labels in loader:
        outputs = model(images)
        _, predictions = torch.max(outputs, 1)
        for t, p in zip(labels.view(-1), predictions.view(-1)):
            confusion[t.long(), p.long()] += 1
        counts += torch.bincount(predictions, minlength=3)
        for label, prediction in zip(labels, predictions):
            if label == prediction:
                correct_pred[classes[label]] += 1
            total_pred[classes[label]] += 1
print(confusion)
print(counts.tolist(), confusion.diag().sum().item() / len(X))
for classname, correct_count in correct_pred.items():
    print(f"Accuracy for class: {classname:5s} is {100 * float(correct_count) / total_pred[classname]:.1f} %")
