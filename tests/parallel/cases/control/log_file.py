# A CSV log written line by line in the loop, read back at the end; print to a file
import csv

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(33, 3), torch.randn(33, 1)), batch_size=8)
model = nn.Linear(3, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
with open("log.csv", "w", newline="") as f:
    writer = csv.writer(f)
    writer.writerow(["step", "loss"])
    for step, (x, y) in enumerate(loader):
        loss = nn.functional.mse_loss(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        writer.writerow([step, f"{loss.item():.6f}"])
        print("step", step, f"{loss.item():.6f}")
with open("notes.txt", "a") as notes:
    print("finished", file=notes)
rows = list(csv.DictReader(open("log.csv")))
print(len(rows), rows[-1]["loss"], open("notes.txt").read().strip())
