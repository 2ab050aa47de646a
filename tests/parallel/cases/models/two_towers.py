# CLIP-like two towers: a similarity matrix of the batch and a learned temperature
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(29, 6), torch.randn(29, 9)), batch_size=7, shuffle=True)


class CLIP(nn.Module):
    def __init__(self):
        super().__init__()
        self.image = nn.Linear(6, 5)
        self.text = nn.Linear(9, 5)
        self.logit_scale = nn.Parameter(torch.ones([]) * np.log(1 / 0.07))

    def forward(self, image, text):
        i = self.image(image)
        t = self.text(text)
        i = i / i.norm(dim=1, keepdim=True)
        t = t / t.norm(dim=1, keepdim=True)
        return i, t, self.logit_scale.exp()


model = CLIP()
opt = torch.optim.SGD(model.parameters(), lr=0.01)
for epoch in range(2):
    for image, text in loader:
        i, t, scale = model(image, text)
        logits = scale * i @ t.t()
        labels = torch.arange(len(image))
        loss = (nn.functional.cross_entropy(logits, labels) + nn.functional.cross_entropy(logits.t(), labels)) / 2
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, f"{loss.item():.6f}", f"{model.logit_scale.item():.6f}")
