# A SummaryWriter with scalars, histograms and the graph of the tutorial's train_one_epoch
#: needs tensorboard
#: ignore writer tb_writer
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.tensorboard import SummaryWriter

torch.manual_seed(0)
training_loader = DataLoader(TensorDataset(torch.randn(52, 4), torch.randint(0, 2, (52,))), batch_size=7, shuffle=True)
validation_loader = DataLoader(TensorDataset(torch.randn(20, 4), torch.randint(0, 2, (20,))), batch_size=7)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def train_one_epoch(epoch_index, tb_writer):
    running_loss = 0.0
    last_loss = 0.0
    for i, data in enumerate(training_loader):
        inputs, labels = data
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = loss_fn(outputs, labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
        if i % 3 == 2:
            last_loss = running_loss / 3
            print("  batch {} loss: {:.6f}".format(i + 1, last_loss))
            tb_x = epoch_index * len(training_loader) + i + 1
            tb_writer.add_scalar("Loss/train", last_loss, tb_x)
            running_loss = 0.0
    return last_loss


writer = SummaryWriter("runs/fashion_trainer")
best_vloss = 1_000_000.0
for epoch in range(2):
    print("EPOCH {}:".format(epoch + 1))
    model.train(True)
    avg_loss = train_one_epoch(epoch, writer)
    running_vloss = 0.0
    model.eval()
    with torch.no_grad():
        for i, vdata in enumerate(validation_loader):
            vinputs, vlabels = vdata
            voutputs = model(vinputs)
            vloss = loss_fn(voutputs, vlabels)
            running_vloss += vloss
    avg_vloss = running_vloss / (i + 1)
    print("LOSS train {:.6f} valid {:.6f}".format(avg_loss, avg_vloss))
    writer.add_scalars("Training vs. Validation Loss", {"Training": avg_loss, "Validation": avg_vloss}, epoch + 1)
    writer.add_histogram("weights", model[0].weight, epoch)
    writer.flush()
    if avg_vloss < best_vloss:
        best_vloss = avg_vloss
        torch.save(model.state_dict(), "model_{}".format(epoch))
writer.close()
