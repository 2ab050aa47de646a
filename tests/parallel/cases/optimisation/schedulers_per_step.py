# OneCycleLR and CosineAnnealingWarmRestarts, one step of the schedule per batch
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
dl = DataLoader(TensorDataset(torch.randn(50, 4), torch.randint(0, 2, (50,))), batch_size=11, shuffle=True)
for kind in ("onecycle", "restarts"):
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    if kind == "onecycle":
        sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.1, steps_per_epoch=len(dl), epochs=2)
    else:
        sched = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=3)
    lrs = []
    for epoch in range(2):
        for xb, yb in dl:
            loss = nn.functional.cross_entropy(net(xb), yb)
            opt.zero_grad()
            loss.backward()
            opt.step()
            lrs.append(opt.param_groups[0]["lr"])
            sched.step()
    print(kind, f"{loss.item():.6f}", f"{sched.get_last_lr()[0]:.8f}")
