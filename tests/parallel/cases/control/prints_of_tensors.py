# Shapes, slices, samples and whole tensors of batches printed
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(19, 3), torch.randint(0, 4, (19,))), batch_size=5)
model = nn.Linear(3, 4)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for i, (x, y) in enumerate(loader):
    out = model(x)
    loss = nn.functional.cross_entropy(out, y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if i == 0:
        print(x.shape, x.dtype, y.size(), len(y), out.size(-1), x.dim(), x.numel())
        print(y, y[:3], x[0], y[-1].item(), x[1, 2])
        print("min %.4f max %.4f mean %.4f std %.4f" % (x.min(), x.max(), x.mean(), x.std()))
        print(f"{out[0].argmax()} {x[0].tolist()} {out.softmax(-1)[:2]}")
        print(loss, loss.item(), float(loss), str(loss.dtype))
    print("batch", i, "labels", y.tolist(), "pred", out.argmax(1).tolist())
