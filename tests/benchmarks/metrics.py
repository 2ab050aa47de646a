"""What logging costs the training thread, beside other loggers that are installed.

Run: `python tests/benchmarks/metrics.py [--calls 20000]`.  Each call logs two numbers at a step of its
own; the loggers take turns in each round, medians are printed, and the ratio to nbaas.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbaas.worker.log import log, set_recorder
from nbaas.worker.metrics import MetricsWriter
from nbaas.worker.recorder import RankRecorder

Log = Callable[[int], Any]


class Place:
    step, epoch = 1, 1


def through_nbaas(folder: Path) -> tuple[Log, Callable[[], Any]]:
    writer = MetricsWriter(folder / "r0.jl")
    set_recorder(RankRecorder(Place(), writer, None))  # type: ignore[arg-type]

    def close() -> None:
        set_recorder(None)
        writer.close()

    return lambda step: log(loss_a=1.0 / (step + 1), acc=0.5, step=step), close


def through_tensorboard(folder: Path) -> tuple[Log, Callable[[], Any]]:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))

    def one(step: int) -> None:
        writer.add_scalar("loss_a", 1.0 / (step + 1), step)
        writer.add_scalar("acc", 0.5, step)

    return one, writer.close


def through_wandb(folder: Path) -> tuple[Log, Callable[[], Any]]:
    os.environ["WANDB_MODE"] = "offline"
    os.environ["WANDB_SILENT"] = "true"
    import wandb

    run = wandb.init(dir=str(folder), project="bench")
    return lambda step: run.log({"loss_a": 1.0 / (step + 1), "acc": 0.5}, step=step), run.finish


def through_mlflow(folder: Path) -> tuple[Log, Callable[[], Any]]:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.start_run()

    def one(step: int) -> None:
        mlflow.log_metrics({"loss_a": 1.0 / (step + 1), "acc": 0.5}, step=step)

    return one, mlflow.end_run


WAYS = {
    "nbaas": (through_nbaas, "nbaas", 1),
    "tensorboard": (through_tensorboard, "tensorboard", 1),
    "wandb offline": (through_wandb, "wandb", 10),
    "mlflow sqlite": (through_mlflow, "mlflow", 200),
}


def microseconds(way: str, calls: int) -> float:
    """Return what one call costs the thread that calls, its closing left out."""
    make, _, share = WAYS[way]
    calls = max(20, calls // share)  # the slow ones log less, at the same rate of their own
    with tempfile.TemporaryDirectory() as folder:
        one, close = make(Path(folder))
        for step in range(5):
            one(step)
        began = time.perf_counter()
        for step in range(5, calls + 5):
            one(step)
        taken = time.perf_counter() - began
        close()
    return 1e6 * taken / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    here = [way for way, (_, module, _) in WAYS.items() if importlib.util.find_spec(module)]
    taken: dict[str, list[float]] = {way: [] for way in here}
    for _ in range(options.rounds):
        for way in here:
            taken[way].append(microseconds(way, options.calls))
    base = statistics.median(taken["nbaas"])
    for way, costs in taken.items():
        middle = statistics.median(costs)
        print(f"{way:<14} {middle:10.1f} us a call of two numbers  {middle / base:8.1f} x nbaas")


if __name__ == "__main__":
    main()
