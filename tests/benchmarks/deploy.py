"""Seconds from `%deploy` to the first answer: cold (no host runs), then warm; goals 2 s and 0.5 s.

Prints a line for each phase of the warm ones: writing the version down, starting its replica, asking.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from nbaas.config import Settings
from nbaas.deploy import client
from nbaas.deploy.export import export_model
from tests.deploy.conftest import mlp


def first_answer(settings: Settings, model: torch.nn.Module, x: torch.Tensor) -> float:
    began = time.perf_counter()
    client.deploy(settings, model, name="digits", example=x)
    client.predict(settings, "digits", x)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--warm", type=int, default=10, metavar="N", help="warm deploys")
    warm_runs = parser.parse_args().warm
    x = torch.randn(4, 64)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "home", cache=Path(folder) / "cache")
        try:
            cold = first_answer(settings, mlp(), x)
            warm = [first_answer(settings, mlp(seed=i), x) for i in range(warm_runs)]
        finally:
            client.stop_host(settings)
        began = time.perf_counter()
        export_model(mlp(), "digits", Path(folder) / "version", example=x)
        written = time.perf_counter() - began
    print(f"cold              {cold:.2f} s  (goal 2 s)")
    print(
        f"warm, median      {statistics.median(warm):.2f} s  (goal 0.5 s; worst {max(warm):.2f} s)"
    )
    print(f"  version written {written:.2f} s")


if __name__ == "__main__":
    main()
