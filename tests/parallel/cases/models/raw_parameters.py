# The "what is torch.nn really" start: raw weights, own log_softmax, nll and updates under no_grad
import math

import torch

torch.manual_seed(0)
x_train = torch.rand(90, 20)
y_train = torch.randint(0, 5, (90,))
weights = torch.randn(20, 5) / math.sqrt(20)
weights.requires_grad_()
bias = torch.zeros(5, requires_grad=True)


def log_softmax(x):
    return x - x.exp().sum(-1).log().unsqueeze(-1)


def model(xb):
    return log_softmax(xb @ weights + bias)


def nll(input, target):
    return -input[range(target.shape[0]), target].mean()


def accuracy(out, yb):
    preds = torch.argmax(out, dim=1)
    return (preds == yb).float().mean()


loss_func = nll
n, bs, lr = 90, 16, 0.5
for epoch in range(2):
    for i in range((n - 1) // bs + 1):
        start_i = i * bs
        end_i = start_i + bs
        xb = x_train[start_i:end_i]
        yb = y_train[start_i:end_i]
        pred = model(xb)
        loss = loss_func(pred, yb)
        loss.backward()
        with torch.no_grad():
            weights -= weights.grad * lr
            bias -= bias.grad * lr
            weights.grad.zero_()
            bias.grad.zero_()
    print(loss_func(model(xb), yb), accuracy(model(xb), yb))
