# L-BFGS with strong Wolfe line search on batches of a loader
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
X = torch.randn(35, 3)
loader = DataLoader(TensorDataset(X, X.sum(1, keepdim=True).sigmoid()), batch_size=17)
model = nn.Linear(3, 1)
optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3, line_search_fn="strong_wolfe")
evaluations = 0
for epoch in range(2):
    for x, y in loader:

        def closure():
            global evaluations
            evaluations += 1
            optimizer.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(model(x), y)
            loss.backward()
            return loss

        loss = optimizer.step(closure)
        print(f"{float(loss):.8f}")
print(evaluations)
