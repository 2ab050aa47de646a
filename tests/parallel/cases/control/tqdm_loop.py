# tqdm around the loader with set_postfix
#: needs tqdm
#: ignore pbar t loop
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm.auto import tqdm

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(48, 4), torch.randint(0, 2, (48,))), batch_size=10, shuffle=True)
model = nn.Linear(4, 2)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in tqdm(range(3)):
    loop = tqdm(enumerate(loader), total=len(loader), leave=False)
    for i, (x, y) in loop:
        out = model(x)
        loss = nn.functional.cross_entropy(out, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        loop.set_description(f"Epoch [{epoch}/3]")
        loop.set_postfix(loss=loss.item(), acc=(out.argmax(1) == y).float().mean().item())
    tqdm.write(f"{epoch} {loss.item():.6f}")
