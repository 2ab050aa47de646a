# LeNet with batch norm; batches that do not divide
import torch
import torch.nn as nn
import torch.optim as optim
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
images = torch.randn(70, 1, 12, 12)
labels = torch.randint(0, 4, (70,))


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv1 = nn.Conv2d(1, 6, 3)
        self.bn1 = nn.BatchNorm2d(6)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 8, 3)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc1 = nn.Linear(8 * 1 * 1, 16)
        self.bn3 = nn.BatchNorm1d(16)
        self.fc2 = nn.Linear(16, 4)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        x = self.pool(torch.relu(self.bn2(self.conv2(x))))
        x = x.view(-1, 8 * 1 * 1)
        return self.fc2(torch.relu(self.bn3(self.fc1(x))))


net = Net().double()
trainloader = DataLoader(TensorDataset(images.double(), labels), batch_size=17, shuffle=True)
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
for epoch in range(2):
    running_loss = 0.0
    for i, data in enumerate(trainloader, 0):
        inputs, targets = data
        if len(inputs) == 2:
            print("two samples")
        optimizer.zero_grad()
        outputs = net(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
        if i % 2 == 1:
            print("[%d, %5d] loss: %.6f" % (epoch + 1, i + 1, running_loss / 2))
            running_loss = 0.0
net.eval()
correct = 0
total = 0
with torch.no_grad():
    for data in trainloader:
        inputs, targets = data
        outputs = net(inputs)
        _, predicted = torch.max(outputs.data, 1)
        total += targets.size(0)
        correct += (predicted == targets).sum().item()
print("Accuracy: %d %%" % (100 * correct / total), net.bn1.running_mean.sum().item())
