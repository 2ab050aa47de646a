# A graph convolution over one graph: nodes are not a batch
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(42)
n = 25
edges = torch.randint(0, n, (2, 60))
features = torch.randn(n, 7)
labels = torch.randint(0, 3, (n,))
adj = torch.eye(n)
adj[edges[0], edges[1]] = 1
adj[edges[1], edges[0]] = 1
deg = adj.sum(1)
adj_norm = adj / torch.sqrt(deg.unsqueeze(0) * deg.unsqueeze(1))
idx_train, idx_test = torch.arange(15), torch.arange(15, n)


class GraphConvolution(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(i, o))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, adj):
        return torch.spmm(adj, x @ self.weight)


class GCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.gc1, self.gc2 = GraphConvolution(7, 8), GraphConvolution(8, 3)

    def forward(self, x, adj):
        return F.log_softmax(self.gc2(F.relu(self.gc1(x, adj)), adj), dim=1)


model = GCN()
optimizer = torch.optim.SGD(model.parameters(), lr=0.2, weight_decay=5e-4)
for epoch in range(6):
    model.train()
    optimizer.zero_grad()
    output = model(features, adj_norm)
    loss_train = F.nll_loss(output[idx_train], labels[idx_train])
    acc = (output[idx_train].argmax(1) == labels[idx_train]).double().mean()
    loss_train.backward()
    optimizer.step()
    print("Epoch: {:04d}".format(epoch + 1), "loss_train: {:.6f}".format(loss_train.item()), "acc: {:.4f}".format(acc.item()))
model.eval()
preds = model(features, adj_norm)[idx_test].max(1)[1]
print((preds == labels[idx_test]).sum().item() / len(idx_test))
