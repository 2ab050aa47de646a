# pytorch-ignite: supervised trainer and evaluator with metrics and handlers
#: needs ignite.engine ignite.metrics ignite.handlers
#: ignore trainer evaluator
import torch
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import EarlyStopping
from ignite.metrics import Accuracy, Loss
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X = torch.randn(66, 5)
Y = X[:, :3].argmax(1)
train_loader = DataLoader(TensorDataset(X[:45], Y[:45]), batch_size=10, shuffle=True)
val_loader = DataLoader(TensorDataset(X[45:], Y[45:]), batch_size=10)
model = nn.Sequential(nn.Linear(5, 10), nn.ReLU(), nn.Linear(10, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
criterion = nn.CrossEntropyLoss()
trainer = create_supervised_trainer(model, optimizer, criterion, device="cpu")
evaluator = create_supervised_evaluator(model, metrics={"accuracy": Accuracy(), "nll": Loss(criterion)}, device="cpu")
losses = []


@trainer.on(Events.ITERATION_COMPLETED(every=2))
def log_training_loss(engine):
    losses.append(engine.state.output)
    print(f"Epoch[{engine.state.epoch}] Iteration[{engine.state.iteration}] Loss: {engine.state.output:.6f}")


@trainer.on(Events.EPOCH_COMPLETED)
def log_validation_results(trainer):
    evaluator.run(val_loader)
    m = evaluator.state.metrics
    print(f"Validation - Epoch: {trainer.state.epoch} accuracy: {m['accuracy']:.4f} loss: {m['nll']:.6f}")


evaluator.add_event_handler(Events.COMPLETED, EarlyStopping(2, lambda e: -e.state.metrics["nll"], trainer))
trainer.run(train_loader, max_epochs=3)
