# Python lists, one tensor a step, gradient descent by hand on two numbers
import torch

xs = [1.0, 2.0, 3.0, 4.0]
ys = [2.1, 3.9, 6.2, 7.8]
w = torch.tensor([0.0], requires_grad=True)
b = torch.tensor([0.0], requires_grad=True)
for epoch in range(5):
    for x, y in zip(xs, ys):
        loss = (w * x + b - y) ** 2
        loss.backward()
        w.data = w.data - 0.01 * w.grad.data
        b.data = b.data - 0.01 * b.grad.data
        w.grad.data.zero_()
        b.grad.data.zero_()
    print("progress:", epoch, loss.item())
print("predict (after training)", 4, (w * 4 + b).item())
