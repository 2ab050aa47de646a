"""P64: what a notebook holds and the training does not need reaches no bundle, store, log or answer.

Forty secrets are planted where notebooks keep them; then a cell is trained on two real ranks, the
model deployed and asked.  Everything that was written, shown or answered is searched.
"""

from __future__ import annotations

import secrets
import threading
import time
from pathlib import Path

import pytest
from jupyter_process import Server, start_server, stop_server
from kernel_notebook import Notebook

from nbaas.config import Settings
from nbaas.deploy.hosting import stop_host

pytestmark = pytest.mark.ranks


def canary(place: str) -> str:
    return f"canary-{place}-{secrets.token_hex(6)}"


ENVIRONMENT = [
    "JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
    "GITHUB_TOKEN", "HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY", "DATABASE_URL", "MY_PASSWORD",
    "CUDA_API_KEY", "NCCL_SECRET", "LC_TOKEN", "SSH_AUTH_SOCK", "KAGGLE_KEY",
]  # fmt: skip
IN_ENVIRONMENT = {name: canary(name.lower()) for name in ENVIRONMENT}
PLACES = [
    "global", "dict", "list", "bytes", "dataclass", "closure", "default", "keyword", "lambda",
    "partial", "class", "instance", "method", "docstring", "comment", "output", "result", "percent",
    "environ", "module", "annotation", "array", "exception", "helper", "unused-import", "git",
]  # fmt: skip
IN_NOTEBOOK = {place: canary(place) for place in PLACES}

HIDE = """
import os, functools, dataclasses, types, logging
import numpy
api_key = "{global}"
config = {{"db": {{"password": "{dict}"}}}}
keys = ["{list}"]
raw = b"{bytes}"
@dataclasses.dataclass
class Login:
    token: str = "{dataclass}"
login = Login()
def make(secret):
    return lambda: secret
hidden = make("{closure}")
def call(url, token="{default}", *, key="{keyword}"): return url
get = lambda: "{lambda}"
bound = functools.partial(call, token="{partial}")
class Client:
    token = "{class}"
    def __init__(self): self.key = "{instance}"
    def connect(self):
        return "{method}"
client = Client()
def documented():
    "{docstring}"
# {comment}
print("{output}")
os.environ["MY_OWN_SETTING"] = "{environ}"
keeper = types.ModuleType("keeper"); keeper.key = "{module}"
def typed(x: "{annotation}"): return x
array = numpy.frombuffer(b"{array}", dtype=numpy.uint8)
try:
    raise ValueError("{exception}")
except ValueError as error:
    kept = error
"""
TRAIN = """%%train --ranks 2 --engine ddp --name secretive
marker = "named-in-the-training-cell"
for epoch in range(2):
    for x, y in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
"""
MODEL = """
import torch
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)
    def forward(self, x):
        return self.layer(x)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), 8)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), 0.1)
"""


class CommandLines(threading.Thread):
    """Looks at the words of every process on this machine until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes())
                except OSError:
                    continue
            time.sleep(0.02)


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """What a notebook full of secrets left behind: (home, server, words of all processes)."""
    root = tmp_path_factory.mktemp("secrets")
    person = root / "person"
    person.mkdir()
    (person / ".gitconfig").write_text(f"[http]\nextraHeader = {IN_NOTEBOOK['git']}\n")
    (person / "helper.py").write_text(f"KEY = {IN_NOTEBOOK['helper']!r}\n")
    (person / "unused.py").write_text(f"KEY = {IN_NOTEBOOK['unused-import']!r}\n")
    process, server = start_server(root / "server", HOME=str(person), **IN_ENVIRONMENT)
    words = CommandLines()
    words.start()
    folders = {"HOME": str(person), "NBAAS_HOME": str(server.home), "PYTHONUSERBASE": str(person)}
    try:
        with Notebook(root / "kernel", **folders, **IN_ENVIRONMENT) as notebook:
            cells = [
                "%load_ext nbaas", f"import sys; sys.path.append({str(person)!r})",
                "import unused", HIDE.format(**IN_NOTEBOOK), f"{IN_NOTEBOOK['result']!r}",
                f"%env ANOTHER={IN_NOTEBOOK['percent']}", MODEL, TRAIN,
                "%deploy model --name secretive --example x[:2]", "%predict secretive x[:2]",
            ]  # fmt: skip
            for code in cells:
                cell = notebook.run(code)
                assert not cell.error, cell.error
        yield server, words
    finally:
        words.over.set()
        words.join()
        stop_host(Settings(home=server.home, cache=server.home))
        stop_server(process)


def planted() -> dict[str, bytes]:
    found = {**IN_ENVIRONMENT, **IN_NOTEBOOK}
    assert len(found) >= 40
    return {name: value.encode() for name, value in found.items()}


def test_p64_no_secret_of_the_notebook_is_written_anywhere(played):
    server, _ = played
    files = {path: path.read_bytes() for path in server.home.rglob("*") if path.is_file()}
    hits = [
        f"{name} in {path.relative_to(server.home)}"
        for name, value in planted().items() for path, data in files.items() if value in data
    ]  # fmt: skip
    assert hits == []
    # The search finds what is there: a word that the training cell itself says.
    assert any(b"named-in-the-training-cell" in data for data in files.values())
    kinds = {path.name for path in files}
    assert {"manifest.json", "events.jsonl", "r0.log", "r0.jl", "model.safetensors"} <= kinds


def test_p64_no_secret_is_on_a_command_line(played):
    _, words = played
    assert any(b"nbaas.worker" in line or b"nbaas" in line for line in words.seen)
    hits = [name for name, value in planted().items() for line in words.seen if value in line]
    assert hits == []


def test_p64_no_secret_is_in_an_answer(played):
    server: Server = played[0]
    (job,) = server.get("nbaas/api/jobs").json["jobs"]
    paths = [
        "nbaas/api/jobs", f"nbaas/api/jobs/{job['id']}", f"nbaas/api/jobs/{job['id']}/log?rank=0",
        f"nbaas/api/jobs/{job['id']}/log?rank=1", "nbaas/api/hosts", "nbaas/api/endpoints",
        "nbaas/api/openapi.json", "nbaas/v2/models/secretive", "nbaas/v2/repository/index",
        "nbaas/v2/models/secretive/stats",
    ]  # fmt: skip
    answers = [server.get(path) for path in paths]
    assert {answer.status for answer in answers} == {200}
    refused = server.post("nbaas/v2/models/secretive/infer", b"{}")
    text = b"".join(answer.body + str(answer.headers).encode() for answer in [*answers, refused])
    assert [name for name, value in planted().items() if value in text] == []
    assert b"secretive" in text
