# A pandas frame, standardised, trained in one batch
#: needs pandas
import numpy as np
import pandas as pd
import torch

rng = np.random.default_rng(1)
df = pd.DataFrame(rng.normal(size=(83, 4)), columns=list("abcd"))
df["target"] = 3 * df["a"] - df["c"] + 0.5
features = (df[list("abcd")] - df[list("abcd")].mean()) / df[list("abcd")].std()
X = torch.tensor(features.values, dtype=torch.float32)
y = torch.tensor(df["target"].values, dtype=torch.float32).view(-1, 1)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
opt = torch.optim.Adam(model.parameters(), lr=0.005)
log = []
for epoch in range(10):
    opt.zero_grad()
    loss = torch.nn.functional.mse_loss(model(X), y)
    loss.backward()
    opt.step()
    log.append({"epoch": epoch, "loss": float(loss)})
frame = pd.DataFrame(log)
print(frame.tail(2).to_string())
df["pred"] = model(X).detach().numpy()
print(f"{df['pred'].mean():.6f} {df['pred'].std():.6f}")
