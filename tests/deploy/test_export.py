"""A version directory holds what a notebook's model is, without pickle, and gives the model back."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from nbaas.deploy.export import export_model
from nbaas.deploy.load import check_golden, load_version
from nbaas.deploy.manifest import read_manifest, verify_files
from nbaas.errors import BundleError, DeployError
from tests.deploy.conftest import MLP, REPOSITORY, mlp

X = torch.randn(3, 64, generator=torch.Generator().manual_seed(1))


def again(directory: Path, *inputs) -> torch.Tensor:
    """Return what a fresh interpreter, which knows nothing of the notebook, computes for `inputs`."""
    torch.save(list(inputs), directory.parent / "inputs.pt")
    program = """
import sys, torch
from pathlib import Path
from nbaas.deploy.load import check_golden, load_version
folder = Path(sys.argv[1])
loaded = load_version(folder)
check_golden(loaded, folder)
inputs = torch.load(folder.parent / "inputs.pt")
with torch.inference_mode():
    torch.save(loaded.run(inputs), folder.parent / "outputs.pt")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(directory)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return torch.load(directory.parent / "outputs.pt")[0]


def exported(tmp_path, model, example=X, **given):
    manifest = export_model(model, "m", tmp_path / "v", example=example, **given)
    return tmp_path / "v", manifest


def same_process(directory, *inputs):
    loaded = load_version(directory)
    check_golden(loaded, directory)
    with torch.inference_mode():
        return loaded.run(list(inputs))[0]


def test_a_notebook_class_is_rebuilt_in_a_process_without_the_notebook(tmp_path):
    model = mlp()
    folder, manifest = exported(tmp_path, model)
    assert torch.allclose(again(folder, X), model(X), atol=1e-6)
    assert str(manifest.signature.inputs[0]) == "FP32 [-1,64]"
    assert str(manifest.signature.outputs[0]) == "FP32 [-1,10]"
    assert manifest.batchable
    assert manifest.versions["torch"] == torch.__version__


def test_no_file_of_a_version_is_a_pickle(tmp_path):
    folder, _ = exported(tmp_path, mlp())
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {"manifest.json", "structure.json", "model.safetensors", "golden.safetensors",
                     "source/nbaas_notebook.py"}  # fmt: skip
    for path in folder.rglob("*.json"):
        json.loads(path.read_text())


def test_what_the_class_needs_travels_and_what_only_training_needs_stays(tmp_path, notebook):
    notebook.run("""
import torch, math
from torch import nn
import torch.nn.functional as F
WIDTH, SCALE = 16, torch.tensor(3.0)
dataset = object()
def gate(x):
    return F.gelu(x) * SCALE + math.pi
""")
    notebook.run("""
class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.n = len(vars(type(dataset)))
        self.fc = nn.Linear(64, WIDTH)
    def forward(self, x):
        return gate(self.fc(x))
    def training_step(self, batch):
        return dataset
class Net(nn.Sequential):
    pass
model = Net(Part(), nn.Linear(WIDTH, 10))
""")
    model = notebook["model"].eval()
    folder, _ = exported(tmp_path, model)
    assert torch.allclose(same_process(folder, X), model(X), atol=1e-6)
    assert "dataset" not in json.loads((folder / "structure.json").read_text())["values"]


def test_a_model_keeps_the_class_it_was_made_of_when_the_cell_runs_again(tmp_path, notebook):
    notebook.run(MLP)
    model = notebook["Net"]().eval()
    notebook.run(MLP.replace("torch.relu", "torch.tanh"))
    folder, _ = exported(tmp_path, model)
    assert torch.allclose(same_process(folder, X), model(X), atol=1e-6)


def test_a_class_made_of_nothing_but_a_name_is_found_by_the_sources_given(tmp_path):
    namespace = {"__name__": "__main__"}
    source = MLP.replace("self.fc2(torch.relu(self.fc1(x)))", "self.fc2(self.fc1(x))")
    exec(compile(source, "<nowhere>", "exec"), namespace)
    model = namespace["Net"]().eval()
    with pytest.raises(DeployError, match="source of 'Net' is not known"):
        exported(tmp_path, model)
    folder, _ = exported(tmp_path, model, sources={"Net": source})
    assert torch.allclose(same_process(folder, X), model(X), atol=1e-6)


def test_a_method_set_on_the_class_afterwards_travels(tmp_path, notebook):
    notebook.run(MLP)
    notebook.run("""
def forward(self, x):
    return self.fc2(torch.sigmoid(self.fc1(x)))
Net.forward = forward
""")
    model = notebook["Net"]().eval()
    folder, _ = exported(tmp_path, model)
    assert torch.allclose(same_process(folder, X), model(X), atol=1e-6)


def test_identity_is_kept_tied_weights_and_shared_modules(tmp_path):
    shared = nn.Linear(64, 64)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(64, 64))
    model[3].weight = shared.weight
    folder, _ = exported(tmp_path, model)
    loaded = load_version(folder).model
    assert loaded[0] is loaded[2]
    assert loaded[3].weight is loaded[0].weight
    assert torch.allclose(same_process(folder, X), model(X), atol=1e-6)


LIBRARY = {
    "lstm": (lambda: nn.LSTM(8, 4, batch_first=True), (2, 5, 8)),
    "gru": (lambda: nn.GRU(8, 4, bidirectional=True, batch_first=True), (2, 5, 8)),
    "transformer": (lambda: nn.TransformerEncoderLayer(8, 2, batch_first=True), (2, 5, 8)),
    "attention": (lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, batch_first=True), 2, enable_nested_tensor=False), (2, 5, 8)),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
                                          nn.AdaptiveAvgPool2d(1), nn.Flatten()), (2, 1, 8, 8)),
    "dropout": (lambda: nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.9)), (2, 8)),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3), nn.PReLU()), (2, 8)),
}  # fmt: skip


@pytest.mark.parametrize("kind", LIBRARY)
def test_library_modules_are_rebuilt_without_their_constructor(tmp_path, kind):
    make, shape = LIBRARY[kind]
    model = make()
    x = torch.randn(shape)
    model(x)
    folder, _ = exported(tmp_path, model, x)
    model.eval()
    expected = model(x)
    expected = expected[0] if isinstance(expected, tuple) else expected
    assert torch.allclose(same_process(folder, x), expected, atol=1e-5)


def test_plain_attributes_of_every_kind_come_back(tmp_path, notebook):
    notebook.run("""
import collections, dataclasses, datetime, enum, functools, logging, pathlib, re
import numpy as np, torch
from torch import nn
class Mode(enum.Enum):
    FAST = 1
@dataclasses.dataclass(frozen=True, slots=True)
class Config:
    p: float = 0.5
    nested: tuple = (1, (2, 3))
Pair = collections.namedtuple("Pair", "a b")
Pair.__module__ = "__main__"
def scaled(x, k):
    return x * k
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 2)
        self.mode, self.config = Mode.FAST, Config()
        self.numbers = {"inf": float("inf"), 1: (2.5, None), "z": 1j, "b": b"\\x00"}
        self.path, self.when = pathlib.Path("a/b"), datetime.date(2024, 1, 2)
        self.words = re.compile("a+")
        self.many = collections.OrderedDict(a=[1], b={2, 3}); self.queue = collections.deque([1])
        self.array, self.dtype, self.size = np.arange(3), torch.float32, torch.Size([2, 3])
        self.act, self.logger = functools.partial(scaled, k=2.0), logging.getLogger("net")
        self.method = self.post; self.table = torch.eye(2)
        self.me = [self]; self.scalar = np.float32(1.5); self.device = torch.device("cpu")
        self.names = np.array(["a", "bc"]); self.span = range(3); self.kind = nn.Linear
    def post(self, x):
        return x @ self.table
    def forward(self, x):
        return self.method(self.act(self.fc(x)))
""")
    model = notebook["Net"]().eval()
    folder, _ = exported(tmp_path, model)
    loaded = load_version(folder).model
    assert (loaded.mode.name, loaded.config.nested) == ("FAST", (1, (2, 3)))
    assert loaded.numbers == model.numbers
    assert (loaded.path, loaded.when, loaded.words) == (model.path, model.when, model.words)
    assert (loaded.many, loaded.queue, loaded.size) == (model.many, model.queue, model.size)
    assert loaded.array.tolist() == [0, 1, 2]
    assert loaded.names.tolist() == ["a", "bc"]
    assert (loaded.me[0] is loaded, loaded.scalar, loaded.kind) == (True, 1.5, nn.Linear)
    assert torch.allclose(same_process(folder, X), model(X), atol=1e-6)


def test_a_package_of_the_users_own_travels_with_the_model(tmp_path, monkeypatch):
    package = tmp_path / "project" / "mynets"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text("import torch\ndef act(x):\n    return torch.tanh(x)\n")
    (package / "net.py").write_text(
        "from torch import nn\nfrom . import parts\nclass Own(nn.Linear):\n"
        "    def forward(self, x):\n        return parts.act(super().forward(x))\n"
    )
    monkeypatch.syspath_prepend(str(package.parent))
    from mynets.net import Own

    model = Own(64, 3)
    folder, _ = exported(tmp_path, model)
    assert (folder / "source" / "mynets" / "parts.py").exists()
    assert torch.allclose(again(folder, X), model(X), atol=1e-6)


def test_compiled_and_wrapped_models_are_the_module_inside(tmp_path):
    model = mlp()
    for i, wrapped in enumerate((torch.compile(model), nn.DataParallel(model))):
        folder, manifest = exported(tmp_path / str(i), wrapped)
        assert manifest.model_class == "Net"
        assert torch.allclose(same_process(folder, X), model(X), atol=1e-6)


def test_steps_before_and_after_the_model_go_along(tmp_path, notebook):
    notebook.run(MLP)
    notebook.run("""
MEAN = torch.full((64,), 0.5)
def prepare(pixels):
    return (pixels.float() - MEAN) / 255
def label(logits):
    return {"label": logits.argmax(1), "score": logits.softmax(1).amax(1)}
""")
    model = notebook["Net"]().eval()
    pixels = torch.randint(0, 255, (3, 64), dtype=torch.uint8)
    given = {"pre": notebook["prepare"], "post": notebook["label"]}
    folder, manifest = exported(tmp_path, model, pixels, **given)
    assert [(s.name, str(s)) for s in manifest.signature.inputs] == [("pixels", "UINT8 [-1,64]")]
    assert [s.name for s in manifest.signature.outputs] == ["label", "score"]
    assert manifest.model_class == "Net"
    expected = model((pixels.float() - 0.5) / 255).argmax(1)
    assert torch.equal(same_process(folder, pixels), expected)


def test_a_function_that_calls_modules_is_served_with_them(tmp_path, notebook):
    notebook.run(MLP)
    notebook.run("""
first, second = Net().train(), Net(8)
def ensemble(x):
    return (first(x) + second(x)) / 2
class Voter:
    def __init__(self):
        self.model = first
    def __call__(self, x):
        return self.model(x) * 2
voter = Voter()
""")
    folder, _ = exported(tmp_path / "f", notebook["ensemble"])
    assert torch.allclose(same_process(folder, X), notebook["ensemble"](X), atol=1e-6)
    folder, _ = exported(tmp_path / "o", notebook["voter"])
    assert torch.allclose(same_process(folder, X), notebook["voter"](X), atol=1e-6)


def test_a_step_that_cannot_be_called_is_refused(tmp_path):
    with pytest.raises(DeployError, match="--pre is a int, not a function"):
        exported(tmp_path, mlp(), pre=3)


def with_attribute(value):
    model = mlp()
    model.extra = value
    return model


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (42, "an int cannot be deployed"),
        ([1], "a list cannot be deployed"),
        (nn.Linear, "the class Linear cannot be deployed"),
        (lambda x: x, "a function cannot be deployed"),
    ],
)
def test_what_is_no_module_is_refused_in_one_line_that_names_its_type(tmp_path, model, reason):
    with pytest.raises(DeployError) as refused:
        exported(tmp_path, model)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.local(), "model.extra is a _thread._local"),
        ({"a": [threading.local()]}, "model.extra['a'][0] is a _thread._local"),
        (eval("lambda x: x"), "model.extra is a lambda"),
        ((i for i in ()), "model.extra is a generator"),
        (torch.eye(2).to_sparse(), "model.extra is a sparse_coo tensor"),
        (torch.empty(1, device="meta"), "model.extra is a meta tensor"),
    ],
)
def test_what_cannot_travel_is_named_by_its_path(tmp_path, value, path):
    with pytest.raises(DeployError) as refused:
        exported(tmp_path, with_attribute(value))
    assert path in str(refused.value)
    assert refused.value.hint


def test_a_class_defined_inside_a_function_says_where(tmp_path):
    def factory():
        class Inner(nn.Linear):
            pass

        return Inner

    with pytest.raises(DeployError, match=r"'Inner', defined inside .*factory"):
        exported(tmp_path, factory()(64, 2))


def test_the_model_trains_on_as_before(tmp_path):
    model = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(0.5)).train()
    model[2].eval()
    model[1].requires_grad_(requires_grad=False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    exported(tmp_path, model)
    assert [m.training for m in model.modules()] == [True, True, True, False]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model(X).sum().backward()


# ------------------------------------------------------------------ signature and probes


@pytest.mark.parametrize(
    ("example", "shape"),
    [
        (X, "FP32 [-1,64]"),
        (X[0], "FP32 [-1,64]"),
        (X.numpy(), "FP32 [-1,64]"),
        (X[:1].tolist(), "FP32 [-1,64]"),
        ((X, torch.zeros(3)), "FP32 [-1,64]"),
        ({"x": X}, "FP32 [-1,64]"),
        (
            torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, torch.zeros(3))),
            "FP32 [-1,64]",
        ),
        (None, "FP32 [-1,64]"),
    ],
)
def test_an_example_may_come_in_any_form(tmp_path, example, shape):
    _, manifest = exported(tmp_path, mlp(), example)
    assert str(manifest.signature.inputs[0]) == shape
    assert manifest.signature.inputs[0].name == "x"


def test_without_example_and_clue_the_way_out_is_named(tmp_path):
    with pytest.raises(DeployError, match="--example"):
        exported(tmp_path, nn.Sequential(nn.Conv2d(1, 1, 3)), None)


def test_an_example_the_model_cannot_take_shows_the_models_own_reason(tmp_path):
    with pytest.raises(DeployError, match=r"x \[3, 5\].*mat1 and mat2"):
        exported(tmp_path, mlp(), torch.zeros(3, 5))


def test_several_inputs_and_outputs_keep_their_names(tmp_path, notebook):
    notebook.run("""
import torch
from torch import nn
class Two(nn.Module):
    def forward(self, left, right, *, unused=None):
        return {"sum": left + right, "argmax": (left * right).argmax(1), "none": None}
""")
    left, right = torch.randn(2, 3), torch.randn(2, 3)
    folder, manifest = exported(tmp_path, notebook["Two"](), (left, right))
    assert [s.name for s in manifest.signature.inputs] == ["left", "right"]
    outputs = {s.name: str(s) for s in manifest.signature.outputs}
    assert outputs == {"sum": "FP32 [-1,3]", "argmax": "INT64 [-1]"}
    assert torch.equal(same_process(folder, left, right), left + right)


@pytest.mark.parametrize(
    ("forward", "batchable"),
    [
        ("return x * 2", True),
        ("return x - x.mean(0)", False),
        ("return x.sum(0)", False),
        ("return x @ x.T", False),
        ("return x.cumsum(0)", False),
        ("return x.flatten()", False),
    ],
)
def test_rows_that_depend_on_each_other_are_never_batched(tmp_path, notebook, forward, batchable):
    notebook.run(
        f"from torch import nn\nclass Net(nn.Module):\n    def forward(self, x):\n        {forward}\n"
    )
    _, manifest = exported(tmp_path, notebook["Net"](), torch.randn(2, 3))
    assert manifest.batchable is batchable


def test_a_model_that_rolls_dice_is_not_compared_by_value(tmp_path, notebook):
    notebook.run("""
import torch
from torch import nn
class Dice(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)
""")
    folder, manifest = exported(tmp_path, notebook["Dice"](), torch.zeros(2, 3))
    assert not manifest.deterministic
    check_golden(load_version(folder), folder)


def test_a_model_that_depends_on_something_else_fails_its_golden_answer(
    tmp_path, notebook, monkeypatch
):
    monkeypatch.setenv("NBAAS_TEST_OFFSET", "1")
    notebook.run("""
import os
from torch import nn
class Net(nn.Module):
    def forward(self, x):
        return x + float(os.environ["NBAAS_TEST_OFFSET"])
""")
    folder, _ = exported(tmp_path, notebook["Net"](), torch.zeros(2, 3))
    monkeypatch.setenv("NBAAS_TEST_OFFSET", "3")
    with pytest.raises(DeployError, match="differs from the notebook's by 2"):
        same_process(folder, torch.zeros(2, 3))


# ------------------------------------------------------------------ P43: damage


def test_p43_every_damaged_file_is_refused_by_name_before_it_is_read(tmp_path):
    folder, manifest = exported(tmp_path, mlp())
    for name in manifest.files:
        path = folder / name
        whole = path.read_bytes()
        for broken in (
            whole[:-1],
            whole[: len(whole) // 2],
            _flipped(whole),
            b"",
            bytes(len(whole)),
        ):
            path.write_bytes(broken)
            with pytest.raises(BundleError) as refused:
                load_version(folder)
            assert name in str(refused.value)
        path.unlink()
        with pytest.raises(BundleError, match=f"{name} is missing"):
            load_version(folder)
        path.write_bytes(whole)
    verify_files(folder, manifest)


def _flipped(whole: bytes) -> bytes:
    middle = len(whole) // 2
    return whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]


def test_a_file_slipped_into_the_source_is_refused(tmp_path):
    folder, _ = exported(tmp_path, mlp())
    (folder / "source" / "torch.py").write_text("raise SystemExit")
    with pytest.raises(BundleError, match=r"source/torch.py is not in the manifest"):
        load_version(folder)


def test_a_manifest_that_leads_out_of_its_folder_is_refused(tmp_path):
    folder, manifest = exported(tmp_path, mlp())
    outside = tmp_path / "outside"
    outside.write_bytes((folder / "structure.json").read_bytes())
    moved = {**manifest.files, "../outside": manifest.files["structure.json"]}
    with pytest.raises(BundleError, match="leads out"):
        verify_files(folder, dataclasses.replace(manifest, files=moved))


def test_a_manifest_of_another_format_is_no_manifest(tmp_path):
    folder, _ = exported(tmp_path, mlp())
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(BundleError, match="format 9"):
        read_manifest(folder)
