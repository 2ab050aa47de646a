"""A cell that captures much: first and second launch beside an empty cell, memory of its ranks.

Run: `python tests/benchmarks/capture.py [--gigabytes 1] [--ranks 2] [--rounds 3]`.  In each round the
values are new: one plain write of them with fsync, the first launch, the second, an empty cell.
A launch is from before the capture to the first line of the cell.  Goals: first launch at most 1.3
times the write, second at most 0.2 s above the empty one, one copy in memory for all ranks.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from nbaas.bundle import build_bundle
from nbaas.capture import capture_cell
from nbaas.config import Settings
from nbaas.jobs.submit import new_spec, submit
from nbaas.launchers import zygote
from nbaas.placement import HostResources, place
from nbaas.records import State

# Every byte is looked at, so that every page is there when memory is counted.
CELL = """
import time
print(time.time(), flush=True)
pieces = big if isinstance(big, list) else [big]
total = sum(float(piece.sum()) for piece in pieces)
time.sleep(2)  # until the other ranks have it all in memory too
rollup = dict(line.split(":") for line in open("/proc/self/smaps_rollup").read().splitlines()[1:])
print(rollup["Pss"].split()[0], rollup["Pss_Anon"].split()[0], flush=True)
time.sleep(1)
"""


def made_as(kind: str, nbytes: int) -> Any:
    match kind:
        case "one tensor":
            return torch.rand(nbytes // 4)
        case "250 tensors":
            return [torch.rand(nbytes // 1000) for _ in range(250)]
        case _:
            return [np.random.rand(nbytes // 8 // 10_000) for _ in range(10_000)]


def written(folder: Path, value: Any) -> float:
    """Return the seconds of one plain write of a value's memory."""
    pieces = [memoryview(np.asarray(p)) for p in (value if isinstance(value, list) else [value])]
    start = time.perf_counter()
    with (folder / "plain").open("wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    (folder / "plain").unlink()
    return seconds


def launched(settings: Settings, ranks: int, names: dict[str, Any]) -> tuple[float, float]:
    """Return the seconds to the first line of the cell, and the bytes of all ranks' PSS."""
    start = time.time()
    contents = capture_cell(CELL, names, execution_count=1)
    spec = new_spec(settings, place(HostResources("here", ranks), ranks=ranks))
    job = submit(settings, spec, lambda path: build_bundle(path, contents, settings.blobs))
    status = job.wait(300)
    assert status.state is State.SUCCEEDED, status
    logs = [job.log(rank).read().splitlines() for rank in range(ranks)]
    return float(logs[0][0]) - start, sum(int(log[1].split()[0]) * 1024 for log in logs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="nbaas-capture-"))
    settings = Settings(home=folder, cache=folder, engine="ddp", zygote_idle=120.0, queue=False)
    while zygote.status(zygote.ensure(settings)) is None:
        time.sleep(0.05)
    nbytes = int(options.gigabytes * 1e9)
    empty = {"big": torch.rand(2)}
    launched(settings, options.ranks, empty)
    print(f"{options.gigabytes:g} GB, {options.ranks} ranks, medians of {options.rounds}")
    head = ("", "write s", "first s", "ratio", "second - empty s", "memory of ranks / data")
    print("{:<14}{:>9}{:>9}{:>7}{:>18}{:>24}".format(*head))
    for kind in ("one tensor", "250 tensors", "10000 arrays"):
        rows = [
            one_round(folder, settings, options.ranks, kind, nbytes) for _ in range(options.rounds)
        ]
        write, first, second, none, pss, least = map(statistics.median, zip(*rows, strict=True))
        print(
            f"{kind:<14}{write:>9.2f}{first:>9.2f}{first / write:>7.2f}{second - none:>18.2f}"
            f"{(pss - least) / nbytes:>24.2f}",
            flush=True,
        )
    shutil.rmtree(folder)


def one_round(
    folder: Path, settings: Settings, ranks: int, kind: str, nbytes: int
) -> tuple[float, ...]:
    shutil.rmtree(settings.blobs, ignore_errors=True)
    value = made_as(kind, nbytes)
    before = written(folder, value)
    first, _ = launched(settings, ranks, {"big": value})
    write = (before + written(folder, value)) / 2  # disks have their moods
    second, pss = launched(settings, ranks, {"big": value})
    none, least = launched(settings, ranks, {"big": torch.rand(2)})
    return write, first, second, none, pss, least


if __name__ == "__main__":
    main()
