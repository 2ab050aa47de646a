# numpy in the loop: batches turned into arrays and back, np functions on tensors
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
np.random.seed(0)
loader = DataLoader(TensorDataset(torch.randn(35, 4), torch.randint(0, 2, (35,))), batch_size=8)
model = nn.Linear(4, 2)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
accs = []
for x, y in loader:
    a = x.numpy()
    a = a + 0.1 * np.random.randn(*a.shape).astype(np.float32)
    out = model(torch.from_numpy(a))
    loss = nn.functional.cross_entropy(out, y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    accs.append(np.mean(np.argmax(out.detach().numpy(), axis=1) == np.array(y)))
    print(f"{loss.item():.6f} {accs[-1]:.4f} {np.asarray(x).sum():.4f}")
