# policy gradients with categorical sampling from a batch, advantage normalisation, PPO ratio and clipping
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical, Normal
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
states = torch.randn(40, 4)
pi, v = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3)), nn.Linear(4, 1)
opt = torch.optim.Adam([*pi.parameters(), *v.parameters()], lr=0.01)
for it in range(3):
    with torch.no_grad():
        dist = Categorical(logits=pi(states))
        act = dist.sample()
        old = dist.log_prob(act)
        rew = (act == states.argmax(1) % 3).float()
        adv = rew - v(states).squeeze(-1)
        adv = (adv - adv.mean()) / (adv.std() + 1e-8)
    for s, a, o, ad, r in DataLoader(TensorDataset(states, act, old, adv, rew), batch_size=9, shuffle=True):
        d = Categorical(logits=pi(s))
        ratio = (d.log_prob(a) - o).exp()
        pl = -torch.min(ratio * ad, ratio.clamp(0.8, 1.2) * ad).mean()
        vl = F.mse_loss(v(s).squeeze(-1), r)
        ent = d.entropy().mean()
        kl = (o - d.log_prob(a)).mean().item()
        loss = pl + 0.5 * vl - 0.01 * ent
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(pi.parameters(), 0.5)
        opt.step()
        if kl > 0.05:
            break
    z = Normal(torch.zeros(3), 1.0).rsample()
    print(it, f"{loss.item():.6f} {kl:.6f} {rew.mean().item():.4f} {ratio.max().item():.5f}", act[:5].tolist(), z.tolist())
