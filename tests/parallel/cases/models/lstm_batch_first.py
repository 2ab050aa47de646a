# LSTM over sine windows, batch first, hidden state made in forward from x.size(0)
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
series = np.sin(np.arange(0, 30, 0.25)).astype(np.float32)
window = 10
X = np.stack([series[i : i + window] for i in range(len(series) - window)])[..., None]
y = series[window:, None]
split = 85
train = DataLoader(TensorDataset(torch.from_numpy(X[:split]), torch.from_numpy(y[:split])), batch_size=32, shuffle=True)
X_test, y_test = torch.from_numpy(X[split:]), torch.from_numpy(y[split:])


class LSTMModel(nn.Module):
    def __init__(self, input_dim, hidden_dim, layer_dim, output_dim):
        super().__init__()
        self.hidden_dim = hidden_dim
        self.layer_dim = layer_dim
        self.lstm = nn.LSTM(input_dim, hidden_dim, layer_dim, batch_first=True)
        self.fc = nn.Linear(hidden_dim, output_dim)

    def forward(self, x):
        h0 = torch.zeros(self.layer_dim, x.size(0), self.hidden_dim)
        c0 = torch.zeros(self.layer_dim, x.size(0), self.hidden_dim)
        out, (hn, cn) = self.lstm(x, (h0.detach(), c0.detach()))
        return self.fc(out[:, -1, :])


model = LSTMModel(1, 12, 2, 1)
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(3):
    model.train()
    losses = []
    for xb, yb in train:
        out = model(xb)
        loss = criterion(out, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        test_loss = torch.sqrt(criterion(model(X_test), y_test))
    print(f"epoch {epoch} train {np.mean(losses):.6f} test rmse {test_loss.item():.6f}")
