# Policy gradient on a toy environment: actions sampled in the cell, batch of one
import torch
from torch import nn
from torch.distributions import Categorical

torch.manual_seed(543)
policy = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2), nn.Softmax(dim=-1))
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
returns = []
for episode in range(4):
    position, log_probs, rewards = 0.0, [], []
    for t in range(6):
        state = torch.tensor([position, t / 6])
        probs = policy(state)
        m = Categorical(probs)
        action = m.sample()
        log_probs.append(m.log_prob(action))
        position += 1.0 if action.item() == 1 else -1.0
        rewards.append(-abs(position - 2))
    R, discounted = 0, []
    for r in rewards[::-1]:
        R = r + 0.9 * R
        discounted.insert(0, R)
    g = torch.tensor(discounted)
    g = (g - g.mean()) / (g.std() + 1e-6)
    loss = torch.stack([-lp * r for lp, r in zip(log_probs, g)]).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    returns.append(sum(rewards))
    print(f"Episode {episode}\treturn {returns[-1]:.2f}\tloss {loss.item():.6f}")
