"""A rank that is really slow is told from the others, and an even run blames nobody."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from nbaas.jobs.follow import follow
from nbaas.placement import describe
from nbaas.records import State
from nbaas.widgets.run import RunView

pytestmark = pytest.mark.ranks

CELL = """
import os, time
class Sleepy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)
    def forward(self, x):
        time.sleep(SLEEPS[int(os.environ["NBAAS_RANK"])])
        return self.layer(x)
model = Sleepy()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(STEPS):
    optimizer.zero_grad()
    loss = (model(x) - y).pow(2).mean()
    loss.backward()
    optimizer.step()
"""


def marked(run, sleeps, steps):
    """Return the ranks that were marked at each look at a run, and the run at its end."""
    x = torch.randn(16, 4)
    values = {"SLEEPS": sleeps, "STEPS": steps, "x": x, "y": x.sum(1, keepdim=True)}
    job = run(CELL, values | {"torch": torch, "nn": nn}, name="even")
    view = RunView(job.spec, describe(job.spec.slots))
    seen = []
    for update in follow(job):
        view.take_update(update)
        seen.append([line.rank for line in view.ranks if line.slow])
    assert job.status().state is State.SUCCEEDED
    return seen, view


def test_a_rank_that_sleeps_is_marked_as_the_slowest(run, warm):
    seen, view = marked(run, [0.01, 0.05], 100)
    assert seen[-1] == [1]
    rows = view.view(time.time())["ranks"]
    assert [rank["slow"] for rank in rows] == [False, True]
    assert rows[0]["wait"] > 0.5 > rows[1]["wait"]


def test_an_even_run_blames_nobody(run, warm):
    seen, view = marked(run, [0.04, 0.04], 100)
    assert seen[-1] == []
    # On a busy machine one rank may really be late for a second.
    assert sum(map(bool, seen)) < len(seen) / 5
    assert "at most 1." in view.scaling() or "at most 2.0" in view.scaling()
