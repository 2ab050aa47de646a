# The Udacity loop: validation every few batches inside the training loop, accuracy by topk
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X = torch.randn(90, 6)
Y = X[:, :4].argmax(1)
trainloader = DataLoader(TensorDataset(X[:60], Y[:60]), batch_size=16, shuffle=True)
testloader = DataLoader(TensorDataset(X[60:], Y[60:]), batch_size=16)
model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4), nn.LogSoftmax(dim=1))
criterion = nn.NLLLoss()
optimizer = optim.Adam(model.parameters(), lr=0.003)
epochs, steps, running_loss, print_every = 2, 0, 0, 3
for epoch in range(epochs):
    for inputs, labels in trainloader:
        steps += 1
        optimizer.zero_grad()
        logps = model.forward(inputs)
        loss = criterion(logps, labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
        if steps % print_every == 0:
            test_loss = 0
            accuracy = 0
            model.eval()
            with torch.no_grad():
                for inputs, labels in testloader:
                    logps = model.forward(inputs)
                    batch_loss = criterion(logps, labels)
                    test_loss += batch_loss.item()
                    ps = torch.exp(logps)
                    top_p, top_class = ps.topk(1, dim=1)
                    equals = top_class == labels.view(*top_class.shape)
                    accuracy += torch.mean(equals.type(torch.FloatTensor)).item()
            print(
                f"Epoch {epoch + 1}/{epochs}.. Train loss: {running_loss / print_every:.3f}.. "
                f"Test loss: {test_loss / len(testloader):.3f}.. Test accuracy: {accuracy / len(testloader):.3f}"
            )
            running_loss = 0
            model.train()
