# Each loss of torch.nn once: L1, smooth L1, Huber, KL, BCE, NLL, Poisson, hinge, cosine, margin, CTC
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ds = TensorDataset(torch.randn(22, 5), torch.rand(22), torch.randint(0, 3, (22,)))
net = nn.Linear(5, 6)
opt = torch.optim.SGD(net.parameters(), lr=0.02)
for x, target, cls in DataLoader(ds, batch_size=6):
    out = net(x)
    value, three = out[:, 0], out[:, 1:4]
    sign = torch.where(target > 0.5, 1.0, -1.0)
    losses = {
        "l1": nn.L1Loss()(value, target),
        "smooth": nn.SmoothL1Loss(beta=0.5)(value, target),
        "huber": nn.HuberLoss(delta=0.3)(value, target),
        "bce": nn.BCELoss()(value.sigmoid(), target),
        "kl": nn.KLDivLoss(reduction="batchmean")(three.log_softmax(1), three.detach().flip(1).softmax(1)),
        "nll": nn.NLLLoss()(three.log_softmax(1), cls),
        "poisson": nn.PoissonNLLLoss()(value, target),
        "gauss": nn.GaussianNLLLoss()(value, target, out[:, 4].exp()),
        "hinge": nn.HingeEmbeddingLoss()(value, sign),
        "cosine": nn.CosineEmbeddingLoss()(out[:, :3], out[:, 3:], sign),
        "rank": nn.MarginRankingLoss(0.1)(value, out[:, 5], sign),
        "soft": nn.SoftMarginLoss()(value, sign),
        "margin": nn.MultiMarginLoss()(three, cls),
        "multi": nn.MultiLabelSoftMarginLoss()(three, nn.functional.one_hot(cls, 3).float()),
    }
    loss = sum(losses.values())
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(" ".join(f"{k} {v.item():.5f}" for k, v in losses.items()))
