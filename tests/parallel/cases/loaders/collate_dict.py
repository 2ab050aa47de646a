# A collate function that returns a dict with texts, tensors and a mask
import torch
from torch import nn
from torch.utils.data import DataLoader

torch.manual_seed(7)
rows = [{"text": "w" * (1 + i % 5), "ids": list(range(1, 2 + i % 5)), "label": i % 3} for i in range(37)]


def collate_fn(batch):
    longest = max(len(r["ids"]) for r in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    for i, r in enumerate(batch):
        ids[i, : len(r["ids"])] = torch.tensor(r["ids"])
    return {
        "input_ids": ids,
        "attention_mask": (ids > 0).long(),
        "labels": torch.tensor([r["label"] for r in batch]),
        "text": [r["text"] for r in batch],
    }


loader = DataLoader(rows, batch_size=10, shuffle=True, collate_fn=collate_fn)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(10, 6)
        self.out = nn.Linear(6, 3)

    def forward(self, input_ids, attention_mask):
        h = self.emb(input_ids) * attention_mask.unsqueeze(-1)
        return self.out(h.sum(1) / attention_mask.sum(1, keepdim=True))


model = Classifier()
opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
characters = 0
for epoch in range(2):
    for batch in loader:
        batch = {k: v.to("cpu") if torch.is_tensor(v) else v for k, v in batch.items()}
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"])
        loss = nn.functional.cross_entropy(logits, batch["labels"])
        opt.zero_grad()
        loss.backward()
        opt.step()
        characters += sum(len(t) for t in batch["text"])
        assert len(batch["text"]) == len(batch["labels"])
    print(f"epoch {epoch} loss {loss.item():.6f} characters {characters}")
