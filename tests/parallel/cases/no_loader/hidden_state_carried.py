# Hidden state carried from one slice of the text to the next, sequence first
import torch
import torch.nn as nn

torch.manual_seed(0)
tokens = torch.randint(0, 12, (7 * 40,))
batch_size, bptt = 7, 8
data = tokens.view(batch_size, -1).t().contiguous()


class RNNModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Embedding(12, 10)
        self.rnn = nn.LSTM(10, 14)
        self.decoder = nn.Linear(14, 12)

    def forward(self, source, hidden):
        out, hidden = self.rnn(self.encoder(source), hidden)
        return self.decoder(out).view(-1, 12), hidden

    def init_hidden(self, bsz):
        weight = next(self.parameters())
        return weight.new_zeros(1, bsz, 14), weight.new_zeros(1, bsz, 14)


def repackage_hidden(h):
    return h.detach() if isinstance(h, torch.Tensor) else tuple(repackage_hidden(v) for v in h)


model = RNNModel()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
for epoch in range(2):
    hidden = model.init_hidden(batch_size)
    total = 0.0
    for i in range(0, data.size(0) - 1, bptt):
        length = min(bptt, data.size(0) - 1 - i)
        source, target = data[i : i + length], data[i + 1 : i + 1 + length].view(-1)
        hidden = repackage_hidden(hidden)
        optimizer.zero_grad()
        output, hidden = model(source, hidden)
        loss = criterion(output, target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        total += loss.item()
    print(f"| epoch {epoch} | loss {total:.6f}")
