# Single samples predicted in the loop: model(x[0:1]), model(dataset[3][0].unsqueeze(0))
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
dataset = TensorDataset(torch.randn(33, 1, 5, 5), torch.randint(0, 3, (33,)))
loader = DataLoader(dataset, batch_size=8, shuffle=True)
model = nn.Sequential(nn.Flatten(), nn.Linear(25, 9), nn.ReLU(), nn.Linear(9, 3))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(2):
    for x, y in loader:
        loss = nn.functional.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    model.eval()
    with torch.no_grad():
        image, label = dataset[3]
        p = model(image.unsqueeze(0)).softmax(1)
        first = model(x[0:1]).argmax().item()
        last = model(x[-1:])[0]
    model.train()
    print(epoch, f"{loss.item():.6f}", p.max().item(), first, last.tolist())
