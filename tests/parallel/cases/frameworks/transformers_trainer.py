# transformers.Trainer with a tiny random BERT, evaluation and compute_metrics
#: needs transformers.trainer accelerate transformers.models.bert.modeling_bert
#: timed runtime
#: slow
#: ignore trainer args result
import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

set_seed(0)
torch.set_default_dtype(torch.float64)
config = BertConfig(
    vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
    max_position_embeddings=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=2,
)
model = BertForSequenceClassification(config)


class Texts(torch.utils.data.Dataset):
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.ids = torch.randint(1, 40, (n, 8), generator=g)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        return {"input_ids": self.ids[i], "attention_mask": torch.ones(8, dtype=torch.long), "labels": int(self.ids[i].sum()) % 2}


def compute_metrics(p):
    return {"accuracy": float((np.argmax(p.predictions, axis=1) == p.label_ids).mean()), "n": len(p.label_ids)}


args = TrainingArguments(
    output_dir="out", num_train_epochs=2, per_device_train_batch_size=9, per_device_eval_batch_size=7, learning_rate=1e-3,
    logging_steps=2, report_to="none", save_strategy="no", disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False,
)
trainer = Trainer(model=model, args=args, train_dataset=Texts(40, 0), eval_dataset=Texts(17, 1), compute_metrics=compute_metrics)
result = trainer.train()
scores = {k: v for k, v in trainer.evaluate().items() if "second" not in k and "time" not in k}
log = [(h["step"], h["loss"], h["grad_norm"]) for h in trainer.state.log_history if "loss" in h]
print(f"{result.training_loss:.6f}", result.global_step)
print(scores)
