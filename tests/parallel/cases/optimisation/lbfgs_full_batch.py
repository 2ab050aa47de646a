# L-BFGS with a closure on the full batch
import torch
import torch.nn as nn

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
x = torch.linspace(-1, 1, 41).unsqueeze(1)
y = torch.sin(3 * x)
net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
criterion = nn.MSELoss()
optimizer = torch.optim.LBFGS(net.parameters(), lr=0.5, max_iter=4)
calls = 0
for step in range(3):

    def closure():
        global calls
        calls += 1
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        return loss

    loss = optimizer.step(closure)
    print("step", step, "loss", f"{loss.item():.6f}")
print(calls)
