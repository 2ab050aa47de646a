"""The models people have in notebooks: each is written down, made again, and answers as it did."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch import nn

from nbaas.deploy.calling import named_outputs
from nbaas.deploy.export import export_model
from nbaas.deploy.load import check_golden, load_version
from nbaas.errors import DeployError

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
IDS = torch.randint(0, 20, (2, 7), generator=torch.Generator().manual_seed(1))
NET = """
class Net(nn.Module):
    def __init__(self, act=torch.relu):
        super().__init__()
        self.fc, self.act = nn.Linear(4, 2), act
    def forward(self, x):
        return self.act(self.fc(x))
"""
START = "import torch, functools, math\nimport numpy as np\nfrom torch import nn\n" + NET


def round_trip(tmp_path, model, example=X, *inputs, **steps):
    """Return the version's manifest and its answers to `inputs`, made again from its folder."""
    manifest = export_model(model, "m", tmp_path / "v", example=example, **steps)
    loaded = load_version(tmp_path / "v")
    check_golden(loaded, tmp_path / "v")
    with torch.no_grad():
        return manifest, loaded.run(list(inputs or [example]))


def same(answers, expected, tolerance=1e-6) -> None:
    expected = list(named_outputs(expected)[1].values())
    assert len(answers) == len(expected)
    for ours, theirs in zip(answers, expected, strict=True):
        assert torch.allclose(ours.double(), theirs.detach().double(), atol=tolerance)


@pytest.mark.parametrize(
    "source",
    [
        "class Deeper(Net):\n    scale = 2.0\n    def forward(self, x):\n"
        "        return super().forward(x) * self.scale\nmodel = Deeper()",
        "def make(k):\n    def act(x):\n        return x * k\n    class Inner(nn.Module):\n"
        "        def __init__(self):\n            super().__init__()\n"
        "            self.fc = nn.Linear(4, 2)\n        def forward(self, x):\n"
        "            return act(self.fc(x))\n    return Inner()\nmodel = make(3.0)",
        "def scaled(k):\n    def act(x):\n        return x * k\n    return act\n"
        "model = Net(scaled(2.0))",
        "model = Net(lambda x: x * 2 + 1), Net(lambda x: x * 3)\nmodel = model[1]",
        "act = lambda x: x.clamp(0, 6)\nclass Global(Net):\n    def forward(self, x):\n"
        "        return act(self.fc(x))\nmodel = Global()",
        "@functools.lru_cache\ndef scale():\n    return 2.0\nclass Cached(Net):\n"
        "    def forward(self, x):\n        return self.fc(x) * scale()\nmodel = Cached()",
        "def twice(f):\n    @functools.wraps(f)\n    def g(self, x):\n        return f(self, x) * 2\n"
        "    return g\nclass Twice(Net):\n    @twice\n    def forward(self, x):\n"
        "        return self.fc(x)\nmodel = Twice()",
        "import types\ndef other(self, x):\n    return self.fc(x) * 3\nmodel = Net()\n"
        "model.forward = types.MethodType(other, model)",
        "from typing import Generic, TypeVar\nT = TypeVar('T')\nNumber = int | float | None\n"
        "class Typed(Net, Generic[T]):\n    def forward(self, x: 'list[T]', k: Number = 1):\n"
        "        return self.fc(x) * k\nmodel = Typed[int]()",
        "from collections import Counter\nimport threading\nmodel = Net()\n"
        "model.lock, model.seen, model.rng = threading.Lock(), Counter('aab'), torch.Generator()",
        "model = Net()\nmodel.fc = torch.compile(model.fc, backend='eager')",
        "net = Net()\nmodel = lambda x: net(x).softmax(1)",
        "def apply(net, x, k=1.0):\n    return net(x) * k\n"
        "model = functools.partial(apply, Net(), k=2.0)",
        "net = Net()\ndef labels(x):\n    return net(x).detach().numpy().argmax(1)\nmodel = labels",
        "def predictor(net):\n    def predict(x):\n        return {'p': net(x), 'n': 2.5}\n"
        "    return predict\nmodel = predictor(Net())",
    ],
    ids=lambda source: source.strip().split("\n")[0][:40],
)
def test_what_a_cell_defines_is_rebuilt(tmp_path, notebook, source):
    notebook.run(START)
    notebook.run(source)
    model = notebook["model"]
    if isinstance(model, nn.Module):
        model.eval()
    with torch.no_grad():
        expected = model(X)
    same(round_trip(tmp_path, model)[1], expected)


def test_lambdas_before_and_after_the_model_go_along(tmp_path, notebook):
    notebook.run(START + "model = Net()\npre, post = (lambda x: x / 2), (lambda y: y.softmax(1))")
    model, pre, post = notebook["model"], notebook["pre"], notebook["post"]
    _, answers = round_trip(tmp_path, model, pre=pre, post=post)
    same(answers, post(model(pre(X))))


def test_a_cell_that_was_edited_since_is_not_taken_for_the_one_that_ran(tmp_path, notebook):
    import linecache

    notebook.run(START + "model = Net(lambda x: x * 2)")
    name = notebook["model"].act.__code__.co_filename
    edited = "".join(linecache.getlines(name)).replace("x * 2", "x * 5")
    linecache.cache[name] = (len(edited), None, edited.splitlines(keepends=True), name)
    with pytest.raises(DeployError, match=r"model\.act is a lambda, which has another text"):
        export_model(notebook["model"], "m", tmp_path / "v", example=X)


@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm", "orthogonal"])
def test_a_parametrised_layer_is_served_by_its_weight_and_stays_as_it_is(tmp_path, norm):
    model = getattr(torch.nn.utils.parametrizations, norm)(nn.Linear(4, 4)).eval()
    _, answers = round_trip(tmp_path, model)
    same(answers, model(X), 1e-5)
    assert torch.nn.utils.parametrize.is_parametrized(model, "weight")
    assert model(X).requires_grad


def test_inputs_may_come_as_one_dictionary_or_one_list(tmp_path, notebook):
    notebook.run(
        START
        + """
class Both(Net):
    def forward(self, batch):
        return self.fc(batch["a"]) - self.fc(batch["b"])
class Sum(Net):
    def forward(self, xs):
        return self.fc(xs[0]) - self.fc(xs[1])
"""
    )
    both, other = notebook["Both"](), X * 2
    manifest, answers = round_trip(tmp_path / "1", both, {"a": X, "b": other}, X, other)
    assert manifest.signature.call == "mapping"
    same(answers, both({"a": X, "b": other}))
    total = notebook["Sum"]()
    manifest, answers = round_trip(tmp_path / "2", total, [X, other], X, other)
    assert (manifest.signature.call, manifest.batchable) == ("sequence", True)
    same(answers, total([X, other]))
    plain = notebook["Net"]()
    manifest, _ = round_trip(tmp_path / "3", plain, [X, torch.zeros(3)], X)  # a loader's batch
    assert [spec.name for spec in manifest.signature.inputs] == ["x"]


def test_rows_of_tokens_may_have_any_length_where_the_model_takes_it(tmp_path, notebook):
    notebook.run(
        START
        + """
class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.r = nn.Embedding(20, 8), nn.GRU(8, 8, batch_first=True)
    def forward(self, ids, mask):
        states, _ = self.r(self.e(ids) * mask[..., None])
        return states, states[:, -1]
class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.fc = nn.Embedding(20, 8), nn.Linear(56, 2)
    def forward(self, ids):
        return self.fc(self.e(ids).flatten(1))
"""
    )
    words, longer = notebook["Words"](), torch.randint(0, 20, (1, 12))
    manifest, answers = round_trip(
        tmp_path / "1", words, (IDS, torch.ones(2, 7)), longer, torch.ones(1, 12)
    )
    assert [spec.shape for spec in manifest.signature.inputs] == [(-1, -1), (-1, -1)]
    assert [spec.shape for spec in manifest.signature.outputs] == [(-1, -1, 8), (-1, 8)]
    same(answers, words(longer, torch.ones(1, 12)))
    manifest, _ = round_trip(tmp_path / "2", notebook["Fixed"](), IDS)
    assert manifest.signature.inputs[0].shape == (-1, 7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_kept(tmp_path, dtype):
    model = nn.Linear(4, 2).to(dtype)
    _, [answer] = round_trip(tmp_path, model, X.to(dtype))
    assert answer.dtype is dtype
    assert torch.equal(answer, model(X.to(dtype)))


KERAS = {
    "sequential": "model = keras.Sequential([K.Input((4,)), K.Dense(8, activation='relu'), K.Dropout(.5),"
    " K.BatchNormalization(), K.Dense(2, activation='softmax')])",
    "own class": "class Own(keras.Model):\n    def __init__(self, width=8):\n"
    "        super().__init__()\n        self.one, self.two = K.Dense(width), K.Dense(2)\n"
    "    def call(self, x):\n        return self.two(self.one(x))\n"
    "model = Own()\nmodel(np.zeros((1, 4), 'f4'))",
    "own layer": "class Scale(K.Layer):\n    def __init__(self, by, **kwargs):\n"
    "        super().__init__(**kwargs)\n        self.by = by\n    def call(self, x):\n"
    "        return x * self.by\n    def get_config(self):\n"
    "        return {**super().get_config(), 'by': self.by}\n"
    "def swish(x):\n    return x * keras.ops.sigmoid(x)\n"
    "model = keras.Sequential([K.Input((4,)), Scale(3.0), K.Dense(2, activation=swish)])",
    "in a module": "class Mixed(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    "        self.k = keras.Sequential([K.Input((4,)), K.Dense(8)])\n"
    "        self.fc = nn.Linear(8, 2)\n    def forward(self, x):\n        return self.fc(self.k(x))\n"
    "model = Mixed()",
}


@pytest.fixture(scope="module")
def keras():
    os.environ["KERAS_BACKEND"] = "torch"
    return pytest.importorskip("keras")


@pytest.mark.parametrize("kind", KERAS)
def test_a_keras_model_on_torch_is_rebuilt(tmp_path, notebook, keras, kind):
    notebook.run(START + "import keras\nfrom keras import layers as K\n")
    notebook.run(KERAS[kind])
    model = notebook["model"]
    if isinstance(model, keras.Model):
        model.compile("sgd", "mse", metrics=["mae"])
        model.fit(np.random.rand(8, 4), np.random.rand(8, 2), verbose=0)
    manifest, answers = round_trip(tmp_path, model)
    same(answers, model(X), 1e-5)
    assert manifest.versions["keras"] == keras.__version__
    assert manifest.batchable


def test_a_keras_model_of_two_inputs_takes_them_by_name_or_in_order(tmp_path, keras):
    a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
    outputs = keras.layers.Dense(1)(keras.layers.Concatenate()([a, b]))
    model, other = keras.Model([a, b], outputs), torch.rand(3, 2)
    for number, example in enumerate([{"a": X, "b": other}, (X, other)]):
        manifest, answers = round_trip(tmp_path / str(number), model, example, X, other)
        assert [spec.name for spec in manifest.signature.inputs] == ["a", "b"]
        same(answers, model([X, other]), 1e-5)


def test_a_keras_class_that_does_not_tell_its_arguments_is_refused_with_the_way_out(
    tmp_path, notebook, keras
):
    notebook.run(START + "import keras\nfrom keras import layers as K\n")
    notebook.run(KERAS["own class"].replace("Own()", "Own(6)"))
    with pytest.raises(DeployError, match=r"cannot make Own again .*give Own a get_config"):
        export_model(notebook["model"], "m", tmp_path / "v", example=X)
