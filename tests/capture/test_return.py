"""What comes back: into the very objects, with their aliases, and nothing else is touched."""

from __future__ import annotations

import pytest
import torch

from nbaas.capture import merge_result
from tests.capture.notebook import CellError

MODEL = """
    import torch
    from torch import nn
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(4, 8)
            self.norm = nn.BatchNorm1d(8)
            self.out = nn.Linear(8, 2)
            self.calls = 0
        def forward(self, x):
            self.calls += 1
            return self.out(torch.relu(self.norm(self.hidden(x))))
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    X = torch.randn(32, 4)
    y = (X.sum(1) > 0).long()
    losses = []
"""
LOOP = """
    model.train()
    for epoch in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(X), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
"""


def same_state(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_training_leaves_what_the_cell_would_have_left_here(notebook, tmp_path, ranks):
    notebook.cell(MODEL)
    model, optimizer, losses = (notebook[name] for name in ("model", "optimizer", "losses"))
    weight = model.hidden.weight
    notebook.train(LOOP)
    there = {k: v.clone() for k, v in model.state_dict().items()}
    assert notebook["model"] is model
    assert notebook["optimizer"] is optimizer
    assert notebook["losses"] is losses
    assert model.hidden.weight is weight
    assert optimizer.param_groups[0]["params"][0] is weight
    assert int(optimizer.state[weight]["step"]) == 3
    assert model.training is False
    assert model.calls == 3
    assert notebook["epoch"] == 2
    grads = [p.grad.clone() for p in model.parameters()]

    here = type(notebook)(tmp_path / "here", ranks)
    here.cell(MODEL).cell(LOOP)
    assert same_state(here["model"].state_dict(), there)
    assert here["losses"] == losses
    assert all(map(torch.equal, grads, [p.grad for p in here["model"].parameters()]))
    # and it goes on from there as if nothing had happened
    notebook.cell(LOOP)
    here.cell(LOOP)
    assert same_state(here["model"].state_dict(), notebook["model"].state_dict())


def test_aliases_hold_across_the_way(notebook):
    notebook.cell(MODEL)
    notebook.cell("bag = {'net': model}\nhistory = losses\nweights = list(model.parameters())")
    notebook.train("""
        class Trainer:
            def __init__(self, model): self.model = model
        best = model
        trainer = Trainer(model)
        losses.append(1.5)
        bag["loss"] = losses
        with torch.no_grad():
            weights[0].zero_()
        copies = [p.detach().clone() for p in model.parameters()]
    """)
    model = notebook["model"]
    assert notebook["best"] is model
    assert notebook["trainer"].model is model
    assert notebook["bag"]["net"] is model
    assert notebook["bag"]["loss"] is notebook["losses"] is notebook["history"]
    assert notebook["losses"] == [1.5]
    assert not model.hidden.weight.any()
    assert notebook["copies"][0] is not model.hidden.weight


def test_containers_change_in_place_at_any_depth(notebook):
    notebook.cell("""
        import collections
        class Log(list):
            name = "log"
        class State: pass
        state = State(); state.best = {"epoch": 0, "scores": [1]}; state.gone = 1
        seen = {1, 2}
        queue = collections.deque([1], maxlen=2)
        counts = collections.Counter("aab")
        order = collections.OrderedDict(a=1, b=2)
        log = Log([1]); log.extra = []
        raw = bytearray(b"ab")
        inner = state.best["scores"]
    """)
    before = {name: notebook[name] for name in ("state", "seen", "queue", "counts", "order", "log")}
    notebook.train("""
        state.best["scores"].append(2); state.best["epoch"] = 7; del state.gone
        seen.add(3); queue.extend([2, 3]); counts.update("b"); order.move_to_end("a")
        log.append(2); log.extra.append("x"); raw[0] = 99
    """)
    assert all(notebook[name] is value for name, value in before.items())
    assert notebook["inner"] == [1, 2]
    assert notebook["state"].best == {"epoch": 7, "scores": [1, 2]}
    assert not hasattr(notebook["state"], "gone")
    assert notebook["seen"] == {1, 2, 3}
    assert list(notebook["queue"]) == [2, 3]
    assert notebook["counts"] == {"a": 2, "b": 2}
    assert list(notebook["order"]) == ["b", "a"]
    assert notebook["log"] == [1, 2]
    assert notebook["log"].extra == ["x"]
    assert notebook["raw"] == b"cb"


def test_tensors_and_arrays_change_in_place(notebook):
    notebook.cell("""
        import numpy as np, torch
        x = torch.zeros(3, requires_grad=True); half = torch.zeros(4)[:2]; big = torch.zeros(1 << 17)
        a = np.zeros((2, 2)); part = a[0]
    """)
    before = {name: notebook[name] for name in ("x", "half", "big", "a", "part")}
    notebook.train("""
        (x * 2).sum().backward()
        x.data.add_(1); half += 2; big[7] = 1; a[0, 1] = 5
    """)
    assert all(notebook[name] is value for name, value in before.items())
    assert notebook["x"].tolist() == [1, 1, 1]
    assert notebook["x"].grad.tolist() == [2, 2, 2]
    assert notebook["half"].tolist() == [2, 2]
    assert float(notebook["big"][7]) == 1
    assert notebook["a"].tolist() == [[0, 5], [0, 0]]
    assert notebook["part"].tolist() == [0, 5]


def test_unchanged_data_does_not_come_back(notebook):
    notebook.cell("""
        import torch
        from torch.utils.data import DataLoader, TensorDataset
        data = TensorDataset(torch.randn(1 << 16, 8))
        loader = DataLoader(data, batch_size=1 << 14, shuffle=True)
    """)
    contents = notebook.capture("n = sum(len(b) for b, in loader)")
    job = notebook.bundle(contents).parent
    assert notebook.ranks.run(job) == 0
    assert sum(path.stat().st_size for path in (job / "result").iterdir()) < 50_000
    notebook.merge(job, contents)
    assert notebook["n"] == 1 << 16
    assert notebook.changed == ["n"]


def test_names_are_bound_and_deleted_as_the_cell_does(notebook):
    notebook.cell("old = 1\nkept = [1]\nuntouched = object()\nrebound = [0]")
    untouched, kept = notebook["untouched"], notebook["kept"]
    notebook.train("import math\ndel old\nrebound = [len(kept)]\nnew = math.pi")
    assert "old" not in notebook.namespace
    assert notebook["kept"] is kept
    assert notebook["untouched"] is untouched
    assert notebook["rebound"] == [1]
    assert notebook["math"].pi == notebook["new"]
    assert set(notebook.changed) == {"math", "old", "new", "rebound"}
    assert not any(name.startswith("@") for name in notebook.namespace)


def test_what_cannot_come_back_is_named_and_the_rest_comes(notebook):
    notebook.cell("class Box: pass\nbox = Box(); box.items = []\nd = {'a': 1}")
    notebook.train("""
        import threading
        stream = (i for i in range(3))
        box.lock = threading.Lock(); box.value = 3
        d["lock"] = threading.Lock(); d["b"] = 2
        done = True
    """)
    assert notebook["done"] is True
    assert notebook["box"].value == 3
    assert notebook["d"] == {"a": 1, "b": 2}
    assert "stream" not in notebook.namespace
    notes = "\n".join(notebook.notes)
    assert "stream stayed in the rank: cannot pickle 'generator' object" in notes
    assert "box.lock stayed in the rank" in notes
    assert "d['lock'] stayed in the rank" in notes


def test_a_failed_cell_brings_back_what_was_complete(notebook):
    notebook.cell(MODEL)
    model = notebook["model"]
    before = model.hidden.weight.clone()
    with pytest.raises(CellError, match="stop here"):
        notebook.train(LOOP + "    raise ValueError('stop here')\n")
    assert len(notebook["losses"]) == 3
    assert not torch.equal(model.hidden.weight, before)
    assert int(notebook["optimizer"].state[model.hidden.weight]["step"]) == 3


def test_schedulers_and_scalers_go_on(notebook):
    notebook.cell(MODEL)
    notebook.cell("""
        decay = 0.5
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: decay ** epoch)
        scaler = torch.amp.GradScaler("cpu")
    """)
    notebook.train("""
        for _ in range(2):
            loss = nn.functional.cross_entropy(model(X), y)
            scaler.scale(loss).backward(); scaler.step(optimizer); scaler.update(); scheduler.step()
    """)
    assert "lr_scheduler.step()" not in notebook.output
    assert notebook["scheduler"].last_epoch == 2
    assert notebook["optimizer"].param_groups[0]["lr"] == 0.0125
    assert notebook["scheduler"].optimizer is notebook["optimizer"]
    notebook.cell("optimizer.step(); scheduler.step()")
    assert notebook["scheduler"].last_epoch == 3
    assert notebook["scheduler"].get_last_lr() == [0.00625]


def test_a_new_kernel_takes_the_result_from_the_bundle(notebook):
    notebook.cell(MODEL)
    contents = notebook.capture(LOOP + "    best = model\n")
    directory = notebook.bundle(contents)
    assert notebook.ranks.run(directory.parent) == 0
    trained = dict(notebook.namespace)
    notebook.merge(directory.parent, contents)

    notebook.namespace = {"__name__": "__main__", "mine": 1}
    notebook.merge(directory.parent, None)
    assert notebook["best"] is notebook["model"]
    assert notebook["mine"] == 1
    assert same_state(notebook["model"].state_dict(), trained["model"].state_dict())
    parameters = list(notebook["model"].parameters())
    assert notebook["optimizer"].param_groups[0]["params"][0] is parameters[0]
    notebook["model"](notebook["X"]).sum().backward()  # the class works here, too


def test_a_new_kernel_keeps_its_own_names_and_classes(notebook):
    notebook.cell(MODEL)
    contents = notebook.capture(LOOP)
    directory = notebook.bundle(contents)
    assert notebook.ranks.run(directory.parent) == 0

    notebook.namespace = {"__name__": "__main__"}
    notebook.cell(MODEL)  # run again in the new kernel
    mine, data = notebook["Net"], notebook["X"]
    notebook.merge(directory.parent, None)
    assert notebook["Net"] is mine
    assert notebook["X"] is data
    assert type(notebook["model"]) is mine
    assert len(notebook["losses"]) == 3
    assert notebook["optimizer"].param_groups[0]["params"][0] is notebook["model"].hidden.weight


def test_a_damaged_result_changes_nothing(notebook):
    from nbaas.bundle import read_result
    from nbaas.errors import BundleError

    notebook.cell("values = [1]")
    contents = notebook.capture("values.append(2); x = 1")
    job = notebook.bundle(contents).parent
    assert notebook.ranks.run(job) == 0
    path = job / "result" / "values.pkl"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"values\.pkl"):
        merge_result(read_result(job / "result"), notebook.namespace, contents)
    assert notebook["values"] == [1]
    assert "x" not in notebook.namespace
