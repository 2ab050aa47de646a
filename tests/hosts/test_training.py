"""A cell on two hosts that share no file: the same numbers, the values back, nothing shipped twice."""

from __future__ import annotations

import json
import textwrap

import pytest

from nbaas.bundle import read_result
from nbaas.journal import JournalReader
from nbaas.records import State

pytestmark = pytest.mark.ranks

TRAINING = textwrap.dedent("""\
    import torch
    torch.manual_seed(7)
    x = torch.randn(40, 6); y = (x[:, :3].sum(1) > 0).long()
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, y), batch_size=9, shuffle=True)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for epoch in range(3):
        for rows, labels in loader:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(rows), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    print('loss', round(losses[-1], 5))
    """)


def events(job, key: str) -> list[dict]:
    return [e for e in JournalReader(job.paths.events).read() if e.get("event") == key]


def succeeded(job):
    status = job.wait(90)
    logs = [job.log(rank).read() for rank in range(job.spec.world_size)]
    assert status.state is State.SUCCEEDED, f"{status.reason}\n{chr(10).join(logs)}"
    return status


@pytest.mark.parametrize(
    ("engine", "on"), [("horovod", "a:1,b:1"), ("ddp", "a:1,b:1"), ("ddp", "here:1,a:1")]
)
def test_two_hosts_compute_what_one_device_does(run, engine, on):
    if engine == "horovod":
        pytest.importorskip("horovod")
    one_device: dict = {}
    exec(TRAINING, one_device)
    job = run(TRAINING, on=on, engine=engine, seed=7)
    succeeded(job)
    said = job.log(0).read().split("loss ")[1]
    assert float(said) == pytest.approx(one_device["losses"][-1], rel=1e-4)
    for rank in (0, 1):
        rows = [row for row in job.metrics(rank).read() if row.kind == "train"]
        assert [row.step for row in rows] == list(range(1, 16))
    names = [name.name for name in read_result(job.paths.result).summary.bound]
    assert {"model", "losses"} <= set(names)
    facts = json.loads(job.paths.facts.read_text())
    assert facts


def test_what_a_host_has_is_not_sent_again(run, run_bundle):
    import torch

    torch.manual_seed(1)
    values = {"table": torch.arange(50_000)}
    cell = "print(table.sum().item())\n"
    first = run(cell, values, engine="ddp", seed=1)
    succeeded(first)
    assert str(values["table"].sum().item()) in first.log(0).read()
    [sent] = events(first, "SHIPPED")
    assert all(size > 200_000 for size in sent["bytes"].values()), sent
    second = run(cell, values, engine="ddp", seed=1)
    succeeded(second)
    # The kernel's random state has moved on, and with it the manifest: that is all that travels.
    assert all(size < 16_000 for size in events(second, "SHIPPED")[0]["bytes"].values())
    # The very same bundle again, as `nbaas run` starts it: nothing at all.
    third = run_bundle(second)
    succeeded(third)
    assert events(third, "SHIPPED")[0]["bytes"] == {"a": 0, "b": 0}


def test_a_host_sees_no_file_of_this_machine(lab):
    assert lab["a"].run("ls", str(lab.here)) == ""
    assert lab["a"].run("ls", str(lab["b"].home)) == ""
    assert "home" not in lab["a"].run("hostname")


def test_files_of_the_cell_land_on_the_host_of_rank_0_and_the_log_says_where(run, lab):
    job = run("open('model.txt', 'w').write('w')\n", on="a:1,b:1", engine="ddp")
    succeeded(job)
    place = lab["a"].home / "nbaas" / "notebooks"
    assert f"files that the cell writes land on a in {place}" in job.log(0).read()
    assert (place / "model.txt").read_text() == "w"
    assert not (lab["b"].home / "nbaas" / "notebooks" / "model.txt").exists()
    here = run("open('model.txt', 'w').write('w')\n", on="here:1,a:1", engine="ddp")
    succeeded(here)
    assert (lab.notebooks / "model.txt").read_text() == "w"
    assert "land on" not in here.log(0).read()
