# results into pandas, numpy, json, csv, sklearn, Counter, zip, f-strings, sorting in Python
#: needs pandas
import json, csv, io
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ds = TensorDataset(torch.randn(45, 5), torch.randint(0, 3, (45,)))
model = nn.Linear(5, 3)
opt = torch.optim.SGD(model.parameters(), lr=0.2)
recs, out_csv, frames = [], io.StringIO(), []
for epoch in range(2):
    for i, (x, y) in enumerate(DataLoader(ds, batch_size=9, shuffle=True)):
        o = model(x)
        loss = F.cross_entropy(o, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        recs.append({"epoch": epoch, "step": i, "loss": float(loss), "acc": np.mean(o.argmax(1).numpy() == y.numpy())})
        frames.append(pd.DataFrame({"y": y, "p": o.argmax(1), "conf": o.softmax(1).max(1).values.detach().numpy()}))
        csv.writer(out_csv).writerow([epoch, i, round(loss.item(), 5), len(x)])
df = pd.DataFrame(recs)
print(df.groupby("epoch").mean().round(5).to_string())
allf = pd.concat(frames)
print(allf.groupby("y").conf.mean().round(5).to_dict(), pd.crosstab(allf.y, allf.p).values.tolist())
print(json.dumps([round(r["loss"], 4) for r in recs[-3:]]), out_csv.getvalue().splitlines()[-1])
a = np.asarray(x); b = np.array(o.detach()); c = np.stack([t.numpy() for t in x]); 
print(a.shape, b.sum().round(4), c.shape, sorted(o.max(1).values.tolist())[:2], max(y).item(), min(y.tolist()), sum(y.tolist()), [int(v) for v in y][:3], y.numpy().mean(), torch.tensor(y.tolist()).sum(), torch.from_numpy(x.numpy()).sum().item(), np.linalg.norm(x), bool((x > 5).any()), (x > 5).all().item(), x in [x] if False else 0)
print("{} {:.3f} {!r}".format(tuple(x.shape), x.mean(), y[:2]), f"{loss}", str(loss), repr(y), x.mean(0), x[0])
