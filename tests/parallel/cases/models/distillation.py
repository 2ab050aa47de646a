# Knowledge distillation: a teacher under no_grad, KL divergence, temperature
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X = torch.randn(50, 6)
loader = DataLoader(TensorDataset(X, X[:, :3].argmax(1)), batch_size=12, shuffle=True)
teacher = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3)).eval()
student = nn.Linear(6, 3)
opt = torch.optim.SGD(student.parameters(), lr=0.1)
T, alpha = 3.0, 0.7
for epoch in range(3):
    total = 0
    for x, y in loader:
        with torch.no_grad():
            t = teacher(x)
        s = student(x)
        kd = F.kl_div(F.log_softmax(s / T, dim=1), F.softmax(t / T, dim=1), reduction="batchmean") * T * T
        loss = alpha * kd + (1 - alpha) * F.cross_entropy(s, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
    print(f"{total:.6f}")
