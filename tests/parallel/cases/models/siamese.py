# A siamese network: the same net twice, contrastive loss on pairs
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class SiameseDataset(Dataset):
    def __init__(self):
        torch.manual_seed(0)
        self.a, self.b = torch.randn(36, 10), torch.randn(36, 10)

    def __getitem__(self, index):
        same = index % 2
        other = self.a[index] + 0.1 * self.b[index] if same else self.b[index]
        return self.a[index], other, torch.tensor([1 - same], dtype=torch.float32)

    def __len__(self):
        return 36


class SiameseNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 4))

    def forward_once(self, x):
        return self.fc(x)

    def forward(self, input1, input2):
        return self.forward_once(input1), self.forward_once(input2)


class ContrastiveLoss(torch.nn.Module):
    def __init__(self, margin=2.0):
        super().__init__()
        self.margin = margin

    def forward(self, output1, output2, label):
        d = F.pairwise_distance(output1, output2, keepdim=True)
        return torch.mean((1 - label) * torch.pow(d, 2) + label * torch.pow(torch.clamp(self.margin - d, min=0.0), 2))


dataloader = DataLoader(SiameseDataset(), shuffle=True, batch_size=8)
net = SiameseNetwork()
criterion = ContrastiveLoss()
optimizer = torch.optim.Adam(net.parameters(), lr=0.0005)
counter, loss_history = [], []
for epoch in range(2):
    for i, (img0, img1, label) in enumerate(dataloader, 0):
        optimizer.zero_grad()
        output1, output2 = net(img0, img1)
        loss_contrastive = criterion(output1, output2, label)
        loss_contrastive.backward()
        optimizer.step()
        if i % 2 == 0:
            print("Epoch number {}\n Current loss {:.6f}\n".format(epoch, loss_contrastive.item()))
            loss_history.append(loss_contrastive.item())
