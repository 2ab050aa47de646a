"""Shift-Enter to the first step of two ranks: warm, cold; horovodrun and torchrun where they are.

Run: `python tests/benchmarks/launch.py [--engine ddp] [--rounds 5]`.  The ways take turns in each
round, so that the load of the machine is the same for all; no round begins after BUDGET.  Each time
is printed as it is known, medians and ratios at the end.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from nbaas.bundle import build_bundle
from nbaas.capture import capture_cell
from nbaas.config import Settings
from nbaas.jobs.submit import new_spec, submit
from nbaas.launchers import zygote
from nbaas.placement import HostResources, place
from nbaas.records import State

HERE = HostResources("here", 2)
CELL = """
for x, y in loader:
    optimizer.zero_grad()
    loss = ((model(x) - y) ** 2).mean()
    loss.backward()
    optimizer.step()
"""
BUDGET = 45.0  # seconds
HOROVODRUN = """
import time, torch, horovod.torch as hvd
hvd.init()
model = torch.nn.Linear(8, 1)
optimizer = hvd.DistributedOptimizer(torch.optim.Adam(model.parameters(), lr=0.05),
                                     named_parameters=model.named_parameters())
hvd.broadcast_parameters(model.state_dict(), root_rank=0)
x = torch.randn(32, 8)
for _ in range(3):
    optimizer.zero_grad(); ((model(x) - x.sum(1, keepdim=True)) ** 2).mean().backward()
    optimizer.step()
    print("STEP", time.time(), flush=True)
"""
TORCHRUN = """
import time, torch, torch.distributed as dist
dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
x = torch.randn(32, 8)
for _ in range(3):
    optimizer.zero_grad(); ((model(x) - x.sum(1, keepdim=True)) ** 2).mean().backward()
    optimizer.step()
    print("STEP", time.time(), flush=True)
dist.destroy_process_group()
"""
RUNNERS = {  # program -> what starts two ranks, and their script
    "horovodrun": (("horovodrun", "-np", "2", "--gloo", sys.executable), HOROVODRUN),
    "torchrun": (("torchrun", "--standalone", "--nproc-per-node", "2"), TORCHRUN),
}


def notebook() -> dict[str, Any]:
    """Return the names that an earlier cell has left: data, model, optimizer."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    rows = torch.randn(257, 8)
    model = torch.nn.Linear(8, 1)
    return {
        "loader": DataLoader(TensorDataset(rows, rows.sum(1, keepdim=True)), batch_size=32),
        "model": model,
        "optimizer": torch.optim.Adam(model.parameters(), lr=0.05),
    }


def through_nbaas(settings: Settings, names: dict[str, Any]) -> float:
    """Return the seconds from before the capture to the first row of rank 0's metrics."""
    start = time.time()
    spec = new_spec(settings, place(HERE, ranks=2))
    contents = capture_cell(CELL, names, execution_count=1, history=[])
    job = submit(settings, spec, lambda path: build_bundle(path, contents, settings.blobs))
    status = job.wait(120)
    assert status.state is State.SUCCEEDED, status
    return next(row.time for row in job.metrics(0).read() if row.kind == "train") - start


def through_runner(runner: str, folder: Path) -> float:
    """Return the seconds from the command to its first printed step."""
    command, source = RUNNERS[runner]
    script = folder / f"{runner}.py"
    script.write_text(source)
    start = time.time()
    done = subprocess.run(
        (*command, str(script)), capture_output=True, text=True, timeout=300, check=True
    )
    return float(done.stdout.partition("STEP ")[2].split()[0]) - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="ddp")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="nbaas-launch-"))
    warm = Settings(home=folder, cache=folder, engine=options.engine, zygote_idle=120.0)
    names = notebook()
    while zygote.status(zygote.ensure(warm)) is None:
        time.sleep(0.05)
    ways = {
        "warm": lambda: through_nbaas(warm, names),
        "cold": lambda: through_nbaas(replace(warm, warm=False), names),
    }
    for runner in filter(shutil.which, RUNNERS):
        ways[runner] = functools.partial(through_runner, runner, folder)
    taken: dict[str, list[float]] = {way: [] for way in ways}
    begun = time.monotonic()
    for _ in range(options.rounds):
        if time.monotonic() - begun > BUDGET:
            break
        for way, run in ways.items():
            taken[way].append(run())
            print(f"{way:<11} {taken[way][-1]:6.2f} s", flush=True)
    print("median of each:")
    base = statistics.median(taken["warm"])
    for way, seconds in taken.items():
        middle = statistics.median(seconds)
        print(f"{way:<11} {middle:6.2f} s  (min {min(seconds):.2f})  {middle / base:5.1f} x warm")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
