"""`%%train --hosts` in a real kernel, as a person uses it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "magics"))

from kernel_notebook import Notebook

from nbaas.capture.local import local_modules
from nbaas.config import load_settings
from nbaas.server.hosts import check_here, read_hosts

pytestmark = pytest.mark.ranks

CELL = """\
for epoch in range(2):
    for rows, labels in loader:
        optimizer.zero_grad()
        loss = loss_of(model(rows), labels)
        loss.backward()
        optimizer.step()
    print(epoch, round(loss.item(), 5))
"""
SETUP = """\
import torch
from shapes import Net, loss_of
def fresh():
    torch.manual_seed(3)
    x = torch.randn(24, 4); y = (x.sum(1) > 0).long()
    data = torch.utils.data.TensorDataset(x, y)
    loader = torch.utils.data.DataLoader(data, batch_size=6, shuffle=True)
    model = Net()
    return loader, model, torch.optim.SGD(model.parameters(), lr=0.5)
loader, model, optimizer = fresh()
"""


@pytest.fixture(scope="module")
def notebook(lab) -> Iterator[Notebook]:
    home = lab.here / "kernel"
    (home / "work" / "shapes").mkdir(parents=True)
    (home / "work" / "shapes" / "__init__.py").write_text(
        "from shapes.net import Net\nfrom shapes.losses import loss_of\n"
    )
    (home / "work" / "shapes" / "net.py").write_text(
        "import torch\nclass Net(torch.nn.Linear):\n    def __init__(self): super().__init__(4, 2)\n"
    )
    (home / "work" / "shapes" / "losses.py").write_text(
        "from torch.nn.functional import cross_entropy as loss_of\n"
    )
    (home / "config.toml").write_text(
        f'ssh_config = "{lab.config}"\n[clusters.lab]\nhosts = ["a:1", "b:1"]\n'
    )
    with Notebook(home) as started:
        assert started.run("%load_ext nbaas").error == ""
        yield started


def test_a_cell_on_two_hosts_prints_and_leaves_what_it_does_here(notebook, lab):
    assert not notebook.run(SETUP).error
    plain = notebook.run(CELL)
    assert not plain.error, plain.error
    here = notebook.value("model.weight.flatten().tolist()")
    assert not notebook.run("loader, model, optimizer = fresh()").error
    cell = notebook.run(f"%%train --cluster lab --engine ddp --name far\n{CELL}")
    assert not cell.error, cell.error
    numbers = [line for line in cell.stdout.splitlines() if line[:1].isdigit()]
    assert [float(line.split()[1]) for line in numbers] == pytest.approx(
        [float(line.split()[1]) for line in plain.stdout.splitlines()], rel=1e-4
    )
    there = notebook.value("model.weight.flatten().tolist()")
    assert there == pytest.approx(here, rel=1e-4)
    assert "files that the cell writes land on a in" in cell.stdout
    assert notebook.value("type(model).__module__") == "shapes.net"
    jobs = notebook.run("%jobs").texts()
    assert "2 ranks on the CPUs of a, b" in jobs


def test_hosts_lists_and_checks_the_configured_ones(notebook):
    listed = notebook.run("%hosts").texts()
    assert "this machine" in listed
    assert listed.count("ready") == 2, listed
    checked = notebook.run("%hosts check")
    assert not checked.error
    assert checked.texts().count("ready: ") == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--hosts a:2,a:1", "UsageError: a is listed twice"),
        ("--hosts=-oProxyCommand=id:1", "is no host"),
        ("--cluster labb", "UsageError: --cluster 'labb': no cluster of this name (known: lab"),
        ("--hosts a:1 --cluster lab", "UsageError: --hosts and --cluster together"),
        ("--workdir /tmp/x", "is for other hosts"),
        ("--hosts a:1 --workdir 'a;b'", "does not fit"),
        ("--hosts a:1,b:1 --ranks 3", "PlacementError: 3 ranks asked for, 2 slots on a:1, b:1"),
        ("--hosts a:1 --gpus 1", "PlacementError: a:1: a has 0 GPUs"),
        ("--hosts nowhere:1", "HostError: nowhere: no host has this name"),
    ],
)
def test_a_wrong_line_is_one_clear_line_and_starts_nothing(notebook, line, said):
    cell = notebook.run(f"%%train {line}\nx = 1")
    assert len(cell.lines) == 1, cell.lines
    assert said in cell.lines[0]
    assert notebook.run("x").error_name == "NameError"


def test_what_a_cell_imports_from_its_folder_goes_along(tmp_path):
    (tmp_path / "one.py").write_text("import two\n")
    (tmp_path / "two.py").write_text("import three.deep\n")
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "__init__.py").write_text("")
    (tmp_path / "three" / "deep.py").write_text("")
    (tmp_path / "three" / "table.json").write_text("{}")
    (tmp_path / "unused.py").write_text("")
    found = local_modules(["from one import thing\nimport torch"], tmp_path)
    names = {name for name, path in found.items() if path.is_relative_to(tmp_path)}
    assert names == {"one.py", "two.py", "three/__init__.py", "three/deep.py", "three/table.json"}


def test_the_shell_and_the_panel_say_the_same_about_hosts(notebook, lab, monkeypatch, eventually):
    monkeypatch.setenv("NBAAS_HOME", str(notebook.home))
    monkeypatch.setenv("NBAAS_ENGINE", "ddp")
    shell = subprocess.run([sys.executable, "-m", "nbaas.cli", "hosts", "check"], capture_output=True,
                           text=True, timeout=60, check=False)  # fmt: skip
    assert shell.returncode == 0, shell.stderr
    assert [line.split()[:2] for line in shell.stdout.splitlines()[1:]] == [
        ["a", "ready:"],
        ["b", "ready:"],
    ]
    began = [other.state for other in read_hosts([])[1]]
    assert began == ["", ""]  # nobody waits for hosts
    eventually(lambda: [other.state for other in read_hosts([])[1]] == ["ready", "ready"])
    assert all(fact.ok for fact in check_here(load_settings()) if fact.name in ("a", "b"))
