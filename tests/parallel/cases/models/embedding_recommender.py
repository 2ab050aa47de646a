# Matrix factorisation: two embeddings, users and items
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
n_users, n_items = 20, 15
u = torch.randint(0, n_users, (130,))
i = torch.randint(0, n_items, (130,))
r = torch.randint(1, 6, (130,)).float()
dl = DataLoader(TensorDataset(u, i, r), batch_size=33, shuffle=True)


class MF(nn.Module):
    def __init__(self, n_users, n_items, emb_size=6):
        super().__init__()
        self.user_emb = nn.Embedding(n_users, emb_size)
        self.user_bias = nn.Embedding(n_users, 1)
        self.item_emb = nn.Embedding(n_items, emb_size)
        self.item_bias = nn.Embedding(n_items, 1)
        self.user_emb.weight.data.uniform_(0, 0.05)
        self.item_emb.weight.data.uniform_(0, 0.05)

    def forward(self, u, v):
        U, V = self.user_emb(u), self.item_emb(v)
        b_u, b_v = self.user_bias(u).squeeze(), self.item_bias(v).squeeze()
        return (U * V).sum(1) + b_u + b_v


model = MF(n_users, n_items)
opt = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-5)
for epoch in range(3):
    for users, items, ratings in dl:
        y_hat = model(users, items)
        loss = nn.functional.mse_loss(y_hat, ratings)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(f"train loss {loss.item():.6f}")
