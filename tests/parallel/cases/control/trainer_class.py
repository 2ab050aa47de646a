# A Trainer class of the notebook with callbacks
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Callback:
    def on_epoch_end(self, trainer):
        print(f"[{trainer.epoch}] {trainer.metrics['loss']:.6f} {trainer.metrics['acc']:.4f}")


class Trainer:
    def __init__(self, model, loss, optimizer, callbacks=()):
        self.model, self.loss, self.optimizer, self.callbacks = model, loss, optimizer, callbacks
        self.epoch, self.metrics = 0, {}

    def fit(self, loader, epochs):
        for self.epoch in range(1, epochs + 1):
            self._train_epoch(loader)
            for callback in self.callbacks:
                callback.on_epoch_end(self)
        return self

    def _train_epoch(self, loader):
        sums = {"loss": 0.0, "acc": 0.0}
        count = 0
        for batch in loader:
            loss, acc = self._step(*batch)
            sums["loss"] += loss * len(batch[0])
            sums["acc"] += acc * len(batch[0])
            count += len(batch[0])
        self.metrics = {k: v / count for k, v in sums.items()}

    def _step(self, x, y):
        out = self.model(x)
        loss = self.loss(out, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item(), (out.argmax(-1) == y).float().mean().item()


torch.manual_seed(0)
X = torch.randn(63, 5)
net = nn.Sequential(nn.Linear(5, 10), nn.ReLU(), nn.Linear(10, 3))
trainer = Trainer(net, nn.CrossEntropyLoss(), torch.optim.SGD(net.parameters(), lr=0.2), [Callback()])
trainer.fit(DataLoader(TensorDataset(X, X[:, :3].argmax(1)), batch_size=11, shuffle=True), 3)
metrics = trainer.metrics
