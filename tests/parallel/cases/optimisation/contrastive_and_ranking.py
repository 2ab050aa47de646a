# every loss module of torch that fits, contrastive (NT-Xent, triplet mining, CLIP, center loss), ranking
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ds = TensorDataset(torch.randn(41, 5), torch.randint(0, 4, (41,)), torch.randn(41, 5))
model, center = nn.Linear(5, 4), nn.Parameter(torch.randn(4, 4))
opt = torch.optim.SGD([*model.parameters(), center], lr=0.02)
a_t = torch.tensor(0.1)


def ntxent(m, x, y, t):
    z = F.normalize(torch.cat([m(x), m(x + t * 0.1)]), dim=1)
    s = z @ z.T / 0.5
    s.fill_diagonal_(-1e9)
    n = len(x)
    lab = torch.cat([torch.arange(n) + n, torch.arange(n)])
    return F.cross_entropy(s, lab)

def clip(m, x, y, t):
    a, b = F.normalize(m(x), dim=-1), F.normalize(m(t), dim=-1)
    s = a @ b.t()
    lab = torch.arange(len(x))
    return (F.cross_entropy(s, lab) + F.cross_entropy(s.t(), lab)) / 2

def supcon(m, x, y, t):
    z = F.normalize(m(x), dim=1)
    mask = torch.eq(y[:, None], y[None, :]).float() - torch.eye(len(y))
    lp = (z @ z.T).log_softmax(1)
    return -(mask * lp).sum() / mask.sum().clamp(min=1)

def batch_hard(m, x, y, t):
    d = torch.cdist(m(x), m(x))
    same = y.unsqueeze(0) == y.unsqueeze(1)
    p = (d * same).max(1)[0]
    n = (d + 1e3 * same).min(1)[0]
    return F.relu(p - n + 0.3).mean()

def center_loss(m, x, y, t):
    return ((m(x) - center[y]) ** 2).sum(1).mean() + 0.01 * torch.index_select(center, 0, y).abs().sum()

def barlow(m, x, y, t):
    a, b = m(x), m(t)
    a, b = (a - a.mean(0)) / a.std(0), (b - b.mean(0)) / b.std(0)
    c = a.T @ b / len(x)
    return (torch.diagonal(c) - 1).pow(2).sum() + 0.01 * c.pow(2).sum()

def mmd(m, x, y, t):
    a, b = m(x), m(t)
    k = lambda u, v: torch.exp(-torch.cdist(u, v) ** 2).mean()
    return k(a, a) + k(b, b) - 2 * k(a, b)

def pair_rank(m, x, y, t):
    s = m(x)[:, 0]
    i, j = torch.triu_indices(len(s), len(s), 1)
    return F.softplus(-(s[i] - s[j]) * (y[i] - y[j]).float()).mean()

def listnet(m, x, y, t):
    return -(y.float().softmax(0) * m(x)[:, 0].log_softmax(0)).sum()

def trip(m, x, y, t): return nn.TripletMarginLoss()(m(x), m(t), m(x.flip(0)))
def cosemb(m, x, y, t): return nn.CosineEmbeddingLoss(margin=0.1)(m(x), m(t), (y > 1).float() * 2 - 1)
def margin(m, x, y, t): return nn.MarginRankingLoss(0.1)(m(x)[:, 0], m(t)[:, 0], (y > 1).float() * 2 - 1)
def mmargin(m, x, y, t): return nn.MultiMarginLoss()(m(x), y)
def mlsm(m, x, y, t): return nn.MultiLabelSoftMarginLoss()(m(x), F.one_hot(y, 4).float())
def bce_w(m, x, y, t): return nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1., 2., 3., 4.]))(m(x), F.one_hot(y, 4).float())
def bce_row(m, x, y, t): return F.binary_cross_entropy(m(x).sigmoid(), F.one_hot(y, 4).float(), weight=(y + 1.0).unsqueeze(1))
def ce_ls(m, x, y, t): return nn.CrossEntropyLoss(label_smoothing=0.1, weight=torch.tensor([1., 2., 3., 4.]))(m(x), y)
def ce_ls_ig(m, x, y, t): return F.cross_entropy(m(x), y, label_smoothing=0.2, ignore_index=2)
def ce_soft(m, x, y, t): return F.cross_entropy(m(x), t[:, :4].softmax(1), weight=torch.tensor([1., 2., 3., 4.]))
def gnll(m, x, y, t): return F.gaussian_nll_loss(m(x)[:, :2], t[:, :2], m(x)[:, 2:].exp())
def pnll(m, x, y, t): return F.poisson_nll_loss(m(x)[:, 0], y.float())
def klt(m, x, y, t): return nn.KLDivLoss(reduction="batchmean", log_target=True)(m(x).log_softmax(1), t[:, :4].log_softmax(1)) + F.kl_div(m(x).log_softmax(1), t[:, :4].softmax(1))
def huber(m, x, y, t): return nn.SmoothL1Loss(beta=0.5)(m(x), t[:, :4]) + nn.HuberLoss(delta=0.3, reduction="sum")(m(x), t[:, :4]) / x.shape[0]
def bcast(m, x, y, t): return F.mse_loss(m(x)[:, :1], t[:, :4].mean(1, keepdim=True)) + ((m(x)[:, 0] - y) ** 2).mean() + (m(x).mean(1) - t.mean()).abs().mean()
def nll2d(m, x, y, t): return F.nll_loss(m(x).view(-1, 2, 2).log_softmax(1), torch.stack([y % 2, y // 2], 1))
def mixed(m, x, y, t): return (F.cross_entropy(m(x), y, reduction="none") * torch.where(y == 0, 2.0, 1.0)).sum() / torch.where(y == 0, 2.0, 1.0).sum()


for fn in [ntxent, clip, supcon, batch_hard, center_loss, barlow, mmd, pair_rank, listnet, trip, cosemb, margin, mmargin, mlsm, bce_w, bce_row, ce_ls, ce_ls_ig, ce_soft, gnll, pnll, klt, huber, bcast, nll2d, mixed]:
    for x, y, t in DataLoader(ds, batch_size=11):
        loss = fn(model, x, y, t)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(fn.__name__, f"{loss.item():.6f} {model.weight.grad.abs().sum():.6f}")
