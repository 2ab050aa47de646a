# A Keras model in a hand-written torch loop
#: needs keras
#: env KERAS_BACKEND=torch
#: slow
import keras
import torch
from keras import layers
from torch.utils.data import DataLoader, TensorDataset

keras.utils.set_random_seed(2)
loader = DataLoader(TensorDataset(torch.randn(45, 6), torch.randint(0, 2, (45,))), batch_size=10, shuffle=True)
model = keras.Sequential([keras.Input((6,)), layers.Dense(10, activation="relu"), layers.Dense(2)])
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loss_fn = torch.nn.CrossEntropyLoss()
train_acc = keras.metrics.SparseCategoricalAccuracy()
for epoch in range(2):
    for step, (inputs, targets) in enumerate(loader):
        logits = model(inputs)
        loss = loss_fn(logits, targets)
        model.zero_grad()
        loss.backward()
        optimizer.step()
        train_acc.update_state(targets, logits)
    print(f"epoch {epoch} {loss.item():.6f} {float(train_acc.result()):.4f}")
    train_acc.reset_state()
