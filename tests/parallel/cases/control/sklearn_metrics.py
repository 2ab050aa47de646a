# sklearn's metrics on predictions gathered over the validation loader
#: needs sklearn
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, f1_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
data = load_digits()
X = StandardScaler().fit_transform(data.data).astype(np.float32)
X_train, X_test, y_train, y_test = train_test_split(X, data.target, test_size=0.2, random_state=42)
train_ds = TensorDataset(torch.from_numpy(X_train[:500]), torch.from_numpy(y_train[:500]))
test_ds = TensorDataset(torch.from_numpy(X_test[:101]), torch.from_numpy(y_test[:101]))
train_loader = DataLoader(train_ds, batch_size=64, shuffle=True)
test_loader = DataLoader(test_ds, batch_size=32)
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for epoch in range(3):
    model.train()
    for xb, yb in train_loader:
        opt.zero_grad()
        loss = nn.CrossEntropyLoss()(model(xb), yb)
        loss.backward()
        opt.step()
model.eval()
y_true, y_pred, y_prob = [], [], []
with torch.no_grad():
    for xb, yb in test_loader:
        out = model(xb)
        y_pred.extend(out.argmax(1).cpu().numpy())
        y_true.extend(yb.cpu().numpy())
        y_prob.append(torch.softmax(out, 1).cpu().numpy())
print(f"{loss.item():.6f}", accuracy_score(y_true, y_pred), f1_score(y_true, y_pred, average="macro"))
print(confusion_matrix(y_true, y_pred))
print(classification_report(y_true, y_pred, digits=4))
print(roc_auc_score(y_true, np.concatenate(y_prob), multi_class="ovr", labels=list(range(10))))
