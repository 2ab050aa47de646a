"""Values as they are at launch: memory shared as in the notebook, written once, and no more of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbaas.bundle import open_bundle


def blob_names(notebook):
    return {path.name for path in notebook.blobs.glob("*")} if notebook.blobs.exists() else set()


def test_model_and_optimizer_keep_their_common_parameters(notebook):
    notebook.cell("""
        import torch
        from torch import nn
        model = nn.Linear(3, 1)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    """)
    notebook.train("""
        same = optimizer.param_groups[0]["params"][0] is model.weight
        steps = int(optimizer.state[model.weight]["step"])
        grad = float(model.weight.grad.sum())
    """)
    assert notebook["same"] is True
    assert notebook["steps"] == 1
    assert notebook["grad"] == 3


def test_tied_weights_views_and_arrays_share_their_memory_in_the_rank(notebook):
    notebook.cell("""
        import numpy as np, torch
        from torch import nn
        class Tied(nn.Module):
            def __init__(self):
                super().__init__()
                self.a = nn.Linear(4, 4, bias=False)
                self.b = nn.Linear(4, 4, bias=False)
                self.b.weight = self.a.weight
        tied = Tied()
        base = torch.arange(12.0).reshape(3, 4)
        row, column, same = base[1], base[:, 2], base
        array = np.arange(6)
        view, back, tensor = array[2:], array[::-1], torch.from_numpy(array)
    """)
    notebook.train("""
        with torch.no_grad():
            tied.a.weight.fill_(5)
            base.zero_()
            row[0] = 7
            column[2] = 8
        array[5] = 50
        tensor[0] = 60
        seen = (float(tied.b.weight.sum()), base.tolist(), same is base, view.tolist(), back.tolist())
    """)
    weight, rows, same, view, back = notebook["seen"]
    assert weight == 80
    assert rows == [[0, 0, 0, 0], [7, 0, 0, 0], [0, 0, 8, 0]]
    assert same is True
    assert view == [2, 3, 4, 50]
    assert back == [50, 4, 3, 2, 1, 60]
    assert notebook["array"].tolist() == [60, 1, 2, 3, 4, 50]
    assert notebook["view"].tolist() == [2, 3, 4, 50]
    assert notebook["base"].tolist() == rows


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(0, 3),
        torch.tensor(3.5),
        torch.arange(6, dtype=torch.int16).reshape(2, 3).T,
        torch.randn(4).to(torch.bfloat16),
        torch.tensor([True, False]),
        torch.randn(3, dtype=torch.complex64).conj(),
        torch.ones(1).expand(5),
        torch.eye(3).to_sparse(),
        torch.randn(2, requires_grad=True),
        torch.zeros(2, device="meta"),
    ],
    ids=str,
)
def test_tensors_of_every_kind_arrive(notebook, value):
    notebook.namespace["value"] = value
    path = notebook.bundle(notebook.capture("value"))
    namespace: dict[str, object] = {}
    open_bundle(path, notebook.blobs).restore(namespace)
    arrived = namespace["value"]
    assert arrived.dtype == value.dtype
    assert arrived.shape == value.shape
    assert arrived.layout == value.layout
    assert arrived.requires_grad == value.requires_grad
    if value.device.type != "meta":
        assert torch.equal(
            arrived.to_dense() if value.is_sparse else arrived.resolve_conj(),
            value.to_dense() if value.is_sparse else value.resolve_conj(),
        )


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((0, 2)),
        np.array(3),
        np.arange(6)[::-2],
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array(["a", "bc"]),
        np.array([None, [1]], dtype=object),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.ma.masked_array([1, 2], [True, False]),
    ],
    ids=repr,
)
def test_arrays_of_every_kind_arrive(notebook, value):
    notebook.namespace["value"] = value
    path = notebook.bundle(notebook.capture("value"))
    namespace: dict[str, object] = {}
    open_bundle(path, notebook.blobs).restore(namespace)
    arrived = namespace["value"]
    assert type(arrived) is type(value)
    assert arrived.dtype == value.dtype
    assert arrived.strides == value.strides
    assert repr(arrived) == repr(value)


def test_large_values_are_written_once(notebook):
    notebook.cell("import torch\ndata = torch.arange(64 << 20, dtype=torch.uint8)")
    notebook.train("total = int(data[-1])")
    first = blob_names(notebook)
    written = {path: path.stat().st_mtime_ns for path in notebook.blobs.glob("*")}
    notebook.train("total = int(data[-2])")
    assert len(first) == 1
    assert blob_names(notebook) == first
    assert {path: path.stat().st_mtime_ns for path in notebook.blobs.glob("*")} == written
    assert notebook["total"] == 254


def test_a_changed_value_is_noticed_however_it_was_changed(notebook):
    notebook.cell("import torch\ndata = torch.zeros(1 << 17)\narray = data.numpy()")
    notebook.train("seen = float(data[5])")
    notebook.cell("array[5] = 3")  # past torch's own counters
    notebook.train("seen = float(data[5])")
    assert notebook["seen"] == 3
    assert len(blob_names(notebook)) == 2


def test_a_small_view_does_not_bring_the_whole_storage(notebook):
    notebook.cell("""
        import torch
        everything = torch.full((1 << 20,), 42.0)
        everything[:4] = 1
        few = everything[:4]
    """)
    contents = notebook.capture("few")
    assert contents.size < 100_000
    notebook.train("total = float(few.sum())")
    assert notebook["total"] == 4


def test_what_a_rank_writes_stays_its_own(notebook):
    notebook.cell("import torch\ndata = torch.ones(1 << 17)")
    path = notebook.bundle(notebook.capture("data"))
    spaces = [{}, {}]
    for namespace in spaces:
        open_bundle(path, notebook.blobs).restore(namespace)
    spaces[0]["data"].zero_()
    assert float(spaces[1]["data"].sum()) == 1 << 17
    assert float(notebook["data"].sum()) == 1 << 17


def test_random_generators_go_on_where_the_notebook_is_and_come_back(notebook):
    setup = """
        import random, numpy as np, torch
        random.seed(1); np.random.seed(2); torch.manual_seed(3)
        own = torch.Generator().manual_seed(4)
        rng = np.random.default_rng(5)
        old = np.random.RandomState(6)
        die = random.Random(7)
    """
    draw = """
        drawn = [random.random(), np.random.rand(), torch.rand(1).item(), rng.random(), old.rand(),
                 torch.rand(1, generator=own).item(), die.random()]
    """
    notebook.cell(setup).cell(draw).cell("first = drawn").cell(draw)
    first, second = notebook["first"], notebook["drawn"]
    notebook.cell(setup).train(draw)
    assert notebook["drawn"] == first
    notebook.cell(draw)
    assert notebook["drawn"] == second


def test_settings_of_torch_and_numpy_come_along(notebook):
    notebook.cell("import torch, numpy as np\ntorch.set_default_dtype(torch.float64)")
    try:
        notebook.train("kind = str(torch.zeros(1).dtype)")
    finally:
        torch.set_default_dtype(torch.float32)
    assert notebook["kind"] == "torch.float64"


def test_sizes_are_told_by_name_and_shared_memory_counts_once(notebook):
    notebook.cell("import torch\na = torch.zeros(1 << 18)\nb = a[:]\nc = {'x': a}\nd = [1, 2]")
    sizes = {n.name: n.size for n in notebook.capture("a, b, c, d").names}
    assert sizes["a"] >= 1 << 20
    assert sizes["b"] < 1000
    assert sizes["c"] < 1000
    assert sizes["d"] < 100


def test_loaders_datasets_and_samplers_arrive(notebook):
    notebook.cell("""
        import torch
        from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler, random_split
        torch.manual_seed(0)
        full = TensorDataset(torch.arange(20.0), torch.arange(20))
        train, test = random_split(full, [15, 5])
        def collate(rows): return torch.stack([x for x, _ in rows]) * scale
        def init(worker): torch.manual_seed(worker)
        scale = 10
        first, second = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
        sampler = WeightedRandomSampler(torch.ones(15), 15, generator=first)
        loader = DataLoader(train, 4, sampler=sampler, collate_fn=collate, worker_init_fn=init)
        shuffled = DataLoader(test, 2, shuffle=True, generator=second)
    """)
    read = "read = [b.tolist() for b in loader], [x.tolist() for x, _ in shuffled]"
    state = notebook["sampler"].generator.get_state(), notebook["shuffled"].generator.get_state()
    notebook.cell(read)
    expected = notebook["read"]
    notebook["sampler"].generator.set_state(state[0])
    notebook["shuffled"].generator.set_state(state[1])
    notebook.train(read)
    assert notebook["read"] == expected


def test_a_loader_with_worker_processes_in_use_travels_without_them(notebook):
    notebook.cell("""
        import torch
        from torch.utils.data import DataLoader
        loader = DataLoader(torch.arange(4.0), num_workers=1, persistent_workers=True)
        total = sum(float(x) for x in loader)
    """)
    notebook.train("total = sum(float(x) for x in loader) + 1")
    assert notebook["total"] == 7
    del notebook.namespace["loader"]
