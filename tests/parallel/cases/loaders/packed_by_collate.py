# A collate function that returns a PackedSequence
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader

torch.manual_seed(4)
samples = [(torch.randn(2 + (i * 7) % 5, 3), torch.randn(1)) for i in range(26)]


def pack(batch):
    batch.sort(key=lambda pair: -len(pair[0]))
    return pack_sequence([s for s, _ in batch]), torch.stack([t for _, t in batch])


loader = DataLoader(samples, batch_size=6, collate_fn=pack)
gru = nn.GRU(3, 6)
head = nn.Linear(6, 1)
opt = torch.optim.SGD(list(gru.parameters()) + list(head.parameters()), lr=0.05)
for epoch in range(2):
    total = 0.0
    for packed, target in loader:
        _, h = gru(packed)
        loss = (head(h[-1]) - target).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
    print("epoch", epoch, "loss", f"{total / len(loader):.6f}")
