# SimCLR: the loss compares all samples of the batch with each other, so it must gather
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def info_nce_loss(features, n_views=2, temperature=0.5):
    batch = features.shape[0] // n_views
    labels = torch.cat([torch.arange(batch) for _ in range(n_views)], dim=0)
    labels = (labels.unsqueeze(0) == labels.unsqueeze(1)).float()
    features = F.normalize(features, dim=1)
    similarity_matrix = torch.matmul(features, features.T)
    mask = torch.eye(labels.shape[0], dtype=torch.bool)
    labels = labels[~mask].view(labels.shape[0], -1)
    similarity_matrix = similarity_matrix[~mask].view(similarity_matrix.shape[0], -1)
    positives = similarity_matrix[labels.bool()].view(labels.shape[0], -1)
    negatives = similarity_matrix[~labels.bool()].view(similarity_matrix.shape[0], -1)
    logits = torch.cat([positives, negatives], dim=1)
    labels = torch.zeros(logits.shape[0], dtype=torch.long)
    return logits / temperature, labels


torch.manual_seed(0)
base = torch.randn(35, 10)
loader = DataLoader(TensorDataset(base, base + 0.2 * torch.randn(35, 10)), batch_size=8, shuffle=True, drop_last=True)
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 6))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(2):
    for images in loader:
        images = torch.cat(images, dim=0)
        features = model(images)
        logits, labels = info_nce_loss(features)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        top1 = (logits.argmax(1) == labels).float().mean()
    print(f"Epoch: {epoch}\tLoss: {loss.item():.6f}\tTop1 accuracy: {top1:.4f}")
