# Lightning: early stopping, checkpoints, gradient clipping, accumulation, trainer.test and predict
#: needs lightning lightning.pytorch
#: slow
#: ignore trainer
import logging
import os
import warnings

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
pl.seed_everything(3)


class Reg(pl.LightningModule):
    def __init__(self, lr):
        super().__init__()
        self.save_hyperparameters()
        self.f = nn.Linear(4, 1)

    def training_step(self, batch, _):
        x, y = batch
        return nn.functional.mse_loss(self.f(x), y)

    def validation_step(self, batch, _):
        x, y = batch
        self.log("val", nn.functional.mse_loss(self.f(x), y))

    def test_step(self, batch, _):
        x, y = batch
        self.log("test", nn.functional.l1_loss(self.f(x), y))

    def predict_step(self, batch, _):
        return self.f(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


X = torch.randn(60, 4)
Y = X.sum(1, keepdim=True)
train = DataLoader(TensorDataset(X[:40], Y[:40]), batch_size=7, shuffle=True)
val = DataLoader(TensorDataset(X[40:], Y[40:]), batch_size=7)
best = ModelCheckpoint(dirpath="ckpt", monitor="val")
model = Reg(0.05)
trainer = pl.Trainer(
    max_epochs=3,
    accelerator="cpu",
    logger=False,
    callbacks=[EarlyStopping("val", patience=1), best],
    gradient_clip_val=0.5,
    accumulate_grad_batches=2,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(model, train, val)
test = trainer.test(model, val, verbose=False)
predictions = torch.cat(trainer.predict(model, val))
print(f"{float(best.best_model_score):.6f}", test[0]["test"], predictions.shape, os.path.basename(best.best_model_path))
