# Encoder and decoder as two modules, a decoding loop in the cell, teacher forcing by chance
import random

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

random.seed(0)
torch.manual_seed(0)
SOS = 1
src = torch.randint(2, 10, (31, 5))
loader = DataLoader(TensorDataset(src, src.flip(1)), batch_size=7, shuffle=True)


class EncoderRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.gru = nn.GRU(8, 12, batch_first=True)

    def forward(self, x):
        return self.gru(self.embedding(x))


class DecoderRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.gru = nn.GRU(8, 12, batch_first=True)
        self.out = nn.Linear(12, 10)

    def forward(self, token, hidden):
        output, hidden = self.gru(torch.relu(self.embedding(token)), hidden)
        return self.out(output[:, 0]), hidden


encoder, decoder = EncoderRNN(), DecoderRNN()
enc_opt = torch.optim.SGD(encoder.parameters(), lr=0.1)
dec_opt = torch.optim.SGD(decoder.parameters(), lr=0.1)
criterion = nn.CrossEntropyLoss()
for epoch in range(2):
    for x, y in loader:
        enc_opt.zero_grad()
        dec_opt.zero_grad()
        _, hidden = encoder(x)
        token = torch.full((x.size(0), 1), SOS, dtype=torch.long)
        loss = 0
        for t in range(y.size(1)):
            logits, hidden = decoder(token, hidden)
            loss += criterion(logits, y[:, t])
            if random.random() < 0.5:
                token = y[:, t].unsqueeze(1)
            else:
                topv, topi = logits.topk(1)
                token = topi.detach()
        loss.backward()
        enc_opt.step()
        dec_opt.step()
    print(epoch, f"{loss.item() / y.size(1):.6f}")
