# A tiny random GPT-2 and BERT in a hand-written loop: ModelOutput, padding collator, get_scheduler
#: needs transformers.models.gpt2.modeling_gpt2 transformers.optimization
#: slow
import torch
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel, get_scheduler

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
model = GPT2LMHeadModel(
    GPT2Config(vocab_size=30, n_positions=16, n_embd=16, n_layer=1, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
)
texts = [torch.randint(1, 30, (3 + i % 6,)).tolist() for i in range(38)]


def collate(batch):
    longest = max(map(len, batch))
    ids = torch.tensor([t + [0] * (longest - len(t)) for t in batch])
    mask = (ids != 0).long()
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


loader = DataLoader(texts, batch_size=9, shuffle=True, collate_fn=collate)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
steps = 2 * len(loader)
lr_scheduler = get_scheduler("linear", optimizer=optimizer, num_warmup_steps=2, num_training_steps=steps)
model.train()
for epoch in range(2):
    for batch in loader:
        batch = {k: v.to("cpu") for k, v in batch.items()}
        outputs = model(**batch)
        loss = outputs.loss
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        optimizer.zero_grad()
    print(f"{epoch} {loss.item():.6f} {outputs.logits.argmax(-1).sum().item()} {lr_scheduler.get_last_lr()[0]:.8f}")
outputs = None
model.eval()
with torch.no_grad():
    generated = model.generate(torch.tensor([[3, 4]]), max_new_tokens=5, do_sample=False, pad_token_id=0)
print(generated.tolist())
