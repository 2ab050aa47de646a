# CTC loss: time first, lengths, the batch in dimension 1
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
n = 23
ds = TensorDataset(torch.randn(n, 12, 4), torch.randint(1, 5, (n, 4)), torch.randint(2, 5, (n,)))
net = nn.GRU(4, 8, batch_first=True)
out = nn.Linear(8, 5)
ctc = nn.CTCLoss(blank=0, zero_infinity=True)
opt = torch.optim.SGD([*net.parameters(), *out.parameters()], lr=0.05)
for x, target, target_lengths in DataLoader(ds, batch_size=6):
    h, _ = net(x)
    log_probs = out(h).log_softmax(2).permute(1, 0, 2)
    input_lengths = torch.full((x.size(0),), log_probs.size(0), dtype=torch.long)
    loss = ctc(log_probs, target, input_lengths, target_lengths)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.6f}")
