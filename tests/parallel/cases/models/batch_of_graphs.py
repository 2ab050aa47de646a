# A batch of graphs in one big graph, made by collate: node rows are not batch rows
import torch
from torch import nn
from torch.utils.data import DataLoader

torch.manual_seed(0)
graphs = [(torch.randn(3 + i % 4, 2), torch.tensor([i % 2])) for i in range(26)]


def collate_graphs(batch):
    nodes = torch.cat([g for g, _ in batch])
    owner = torch.cat([torch.full((len(g),), i) for i, (g, _) in enumerate(batch)])
    return nodes, owner, torch.cat([label for _, label in batch])


class GNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.f, self.g = nn.Linear(2, 8), nn.Linear(8, 2)

    def forward(self, nodes, owner, count):
        pooled = torch.zeros(count, 8).index_add(0, owner, self.f(nodes).relu())
        return self.g(pooled)


model = GNN()
opt = torch.optim.SGD(model.parameters(), lr=0.05)
for epoch in range(2):
    for nodes, owner, labels in DataLoader(graphs, batch_size=7, shuffle=True, collate_fn=collate_graphs):
        logits = model(nodes, owner, len(labels))
        loss = nn.functional.cross_entropy(logits, labels)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, nodes.shape[0], int(owner.max()), f"{loss.item():.6f}")
