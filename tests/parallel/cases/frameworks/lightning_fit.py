# Lightning: a LightningModule, Trainer.fit with validation, self.log, configure_optimizers with a schedule
#: needs lightning lightning.pytorch
#: slow
#: ignore trainer
import logging
import warnings

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
logging.getLogger("lightning").setLevel(logging.ERROR)
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
L.seed_everything(0)


class LitClassifier(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
        self.seen = []

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_epoch=True)
        self.seen.append(loss.item())
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        out = self(x)
        self.log("val_loss", nn.functional.cross_entropy(out, y))
        self.log("val_acc", (out.argmax(1) == y).float().mean())

    def configure_optimizers(self):
        opt = torch.optim.SGD(self.parameters(), lr=0.1)
        return [opt], [torch.optim.lr_scheduler.StepLR(opt, 1, 0.5)]


X = torch.randn(70, 6)
Y = X[:, :3].argmax(1)
train_loader = DataLoader(TensorDataset(X[:50], Y[:50]), batch_size=12, shuffle=True)
val_loader = DataLoader(TensorDataset(X[50:], Y[50:]), batch_size=12)
model = LitClassifier()
trainer = L.Trainer(
    max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
)
trainer.fit(model, train_loader, val_loader)
seen = model.seen
metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
print({k: round(v, 5) for k, v in sorted(metrics.items())}, trainer.global_step)
