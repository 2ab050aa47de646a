# A batch sampler that buckets by length: batches of different sizes
import random

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

random.seed(0)
torch.manual_seed(0)
sentences = [torch.randint(1, 30, (random.randint(3, 9),)) for _ in range(45)]
targets = [int(s.sum()) % 2 for s in sentences]


class BucketBatchSampler:
    def __init__(self, lengths, most):
        buckets = {}
        for i, n in enumerate(lengths):
            buckets.setdefault(n // 3, []).append(i)
        self.batches = [b[i : i + most] for b in buckets.values() for i in range(0, len(b), most)]

    def __iter__(self):
        random.shuffle(self.batches)
        yield from self.batches

    def __len__(self):
        return len(self.batches)


def collate(samples):
    words, labels = zip(*samples)
    return pad_sequence(words, batch_first=True), torch.tensor(labels)


loader = DataLoader(
    list(zip(sentences, targets)),
    batch_sampler=BucketBatchSampler([len(s) for s in sentences], 9),
    collate_fn=collate,
)
emb = nn.Embedding(30, 8, padding_idx=0)
head = nn.Linear(8, 2)
optimizer = torch.optim.SGD([*emb.parameters(), *head.parameters()], lr=0.1)
for epoch in range(2):
    total, n = 0.0, 0
    for words, labels in loader:
        optimizer.zero_grad()
        mask = (words != 0).unsqueeze(-1).float()
        pooled = (emb(words) * mask).sum(1) / mask.sum(1)
        loss = nn.functional.cross_entropy(head(pooled), labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
        n += len(labels)
    print(f"{epoch}: {total / n:.6f} over {n} in {len(loader)} batches")
