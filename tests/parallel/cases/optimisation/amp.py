# autocast in bfloat16 on the CPU and a GradScaler
#: rtol 2e-2
# bfloat16 keeps 8 bits: a sum in another order differs in the third digit
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X = torch.randn(50, 8)
loader = DataLoader(TensorDataset(X, X[:, :4].argmax(1)), batch_size=11, shuffle=True)
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu")
for epoch in range(2):
    for x, y in loader:
        with torch.autocast(device_type="cpu", dtype=torch.bfloat16):
            output = net(x)
            assert output.dtype is torch.bfloat16
            loss = nn.functional.cross_entropy(output, y)
        opt.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(opt)
        scaler.update()
    print(epoch, f"{loss.item():.3f}", scaler.get_scale())
