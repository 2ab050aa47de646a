# Sparse gradients of an embedding, SparseAdam beside SGD
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
words = torch.randint(0, 50, (64, 4))
target = torch.randint(0, 50, (64,))
loader = DataLoader(TensorDataset(words, target), batch_size=15)


class CBOW(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings = nn.Embedding(50, 8, sparse=True)
        self.linear = nn.Linear(8, 50)

    def forward(self, context):
        return torch.log_softmax(self.linear(self.embeddings(context).sum(1)), dim=-1)


model = CBOW().double()
opt_sparse = torch.optim.SparseAdam(list(model.embeddings.parameters()), lr=1e-3)
opt_dense = torch.optim.SGD(model.linear.parameters(), lr=0.1)
for epoch in range(2):
    for context, word in loader:
        opt_sparse.zero_grad()
        opt_dense.zero_grad()
        loss = nn.NLLLoss()(model(context), word)
        loss.backward()
        opt_sparse.step()
        opt_dense.step()
    print(epoch, f"{loss.item():.6f}", model.embeddings.weight.grad.is_sparse)
