"""Values of the libraries that notebooks hold: frames, images, compiled functions, mapped files."""

from __future__ import annotations

import pytest


def test_data_frames_travel_and_change_in_place(notebook):
    pytest.importorskip("pandas")
    notebook.cell("""
        import numpy as np, pandas as pd
        df = pd.DataFrame({"a": np.arange(4), "s": list("wxyz"), "c": pd.Categorical(list("aabb"))})
        df.index = pd.date_range("2024-01-01", periods=4)
        series = df["a"]
        log = pd.DataFrame({"loss": [1.0]})
    """)
    log = notebook["log"]
    notebook.train("""
        total = int(df.a.sum()), "".join(df.s), str(df.index[1].date()), list(df.c.cat.categories)
        means = df.groupby("c", observed=True)["a"].mean()
        log.loc[1] = 0.5
        log["acc"] = [0.1, 0.2]
    """)
    assert notebook["total"] == (6, "wxyz", "2024-01-02", ["a", "b"])
    assert notebook["means"].tolist() == [0.5, 2.5]
    assert notebook["log"] is log
    assert log.to_dict("list") == {"loss": [1.0, 0.5], "acc": [0.1, 0.2]}


def test_unchanged_frames_do_not_come_back(notebook):
    pytest.importorskip("pandas")
    notebook.cell("import numpy as np, pandas as pd\ndf = pd.DataFrame({'a': np.arange(1 << 15)})")
    contents = notebook.capture("n = len(df[df.a > 3])")
    job = notebook.bundle(contents).parent
    assert notebook.ranks.run(job) == 0
    notebook.merge(job, contents)
    assert notebook.changed == ["n"]


def test_images_travel(notebook):
    pytest.importorskip("PIL")
    notebook.cell("from PIL import Image\nimage = Image.new('RGB', (4, 3), (255, 0, 7))")
    notebook.train("size, pixel = image.size, image.getpixel((1, 1)); other = image.rotate(90)")
    assert notebook["size"] == (4, 3)
    assert notebook["pixel"] == (255, 0, 7)
    assert notebook["other"].size == (4, 3)


def test_sparse_matrices_and_estimators_travel(notebook):
    pytest.importorskip("sklearn")
    notebook.cell("""
        import numpy as np
        from scipy import sparse
        from sklearn.preprocessing import StandardScaler
        matrix = sparse.csr_matrix(np.eye(3))
        scaler = StandardScaler().fit(np.arange(6.0).reshape(3, 2))
    """)
    notebook.train("total = matrix.sum(); scaled = scaler.transform([[2.0, 3.0]]).tolist()")
    assert notebook["total"] == 3
    assert notebook["scaled"] == [[0, 0]]


def test_generic_functions_and_weak_dictionaries_travel(notebook):
    notebook.cell("""
        import functools, weakref
        @functools.singledispatch
        def describe(x): return "thing"
        @describe.register
        def _(x: int): return "number"
        describe(1)
        class Node: pass
        node = Node()
        cache = weakref.WeakValueDictionary(n=node)
    """)
    notebook.train("answers = describe(1), describe('a'), cache['n'] is node")
    assert notebook["answers"] == ("number", "thing", True)


def test_compiled_functions_and_modules_travel_uncompiled(notebook):
    notebook.cell("""
        import torch
        @torch.compile(backend="eager")
        def double(x): return x * 2 + shift
        shift = 1
        net = torch.compile(torch.nn.Linear(2, 1), backend="eager")
    """)
    inner = notebook["net"]._orig_mod.weight
    notebook.train("""
        answer = double(torch.ones(1)).item()
        with torch.no_grad():
            net._orig_mod.weight.fill_(3)
        shape = tuple(net(torch.ones(5, 2)).shape)
    """)
    assert notebook["answer"] == 3
    assert notebook["shape"] == (5, 1)
    assert inner.tolist() == [[3, 3]]


def test_a_mapped_file_stays_a_mapped_file(notebook, tmp_path):
    import numpy as np

    path = tmp_path / "data.npy"
    np.save(path, np.arange(1 << 16))
    notebook.namespace["path"] = str(path)
    notebook.cell("import numpy as np\ndata = np.load(path, mmap_mode='r')\npart = data[100:200]")
    contents = notebook.capture("data, part")
    assert contents.size < 60_000  # the file is where it was
    notebook.train("total = int(part.sum()), int(data[-1]), type(data).__name__")
    assert notebook["total"] == (sum(range(100, 200)), (1 << 16) - 1, "memmap")


def test_hooks_and_custom_autograd_travel(notebook):
    notebook.cell("""
        import torch
        seen = []
        class Double(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x): return x * 2
            @staticmethod
            def backward(ctx, g): return g * 2
        model = torch.nn.Linear(2, 1)
        handle = model.register_forward_hook(lambda m, i, o: seen.append(tuple(o.shape)))
    """)
    notebook.train("""
        x = torch.ones(1, requires_grad=True)
        Double.apply(x).sum().backward()
        slope = x.grad.item()
        model(torch.ones(3, 2))
    """)
    assert notebook["slope"] == 2
    assert notebook["seen"] == [(3, 1)]


def test_a_graph_does_not_travel_but_its_value_does(notebook):
    notebook.cell("import torch\nw = torch.ones(2, requires_grad=True)\nloss = (w * 3).sum()")
    notebook.train("value = loss.item()")
    assert notebook["value"] == 6
