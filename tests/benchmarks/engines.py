"""What the engine interface costs over the raw libraries: one flat allreduce a step, 2 ranks.

    python tests/benchmarks/engines.py [--rounds N]

Horovod's and ddp's ranks are alive at the same time and take turns; within a turn the raw call and
ours alternate.  Prints milliseconds (p10 and median of the rounds) and the ratio ours / raw, the
median over the rounds, and exits 1 where it is above LIMIT.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from nbaas.engines.base import engine_named
from nbaas.engines.proof import slots_of

ENGINES = ("horovod", "ddp")
SIZES = (1_000, 100_000, 2_000_000)  # float32 elements
CALLS = 20  # in one measurement
WORLD_SIZE = 2
LIMIT = 1.15


def rank(engine: str, number: int) -> None:
    """Measure once for each line that comes on stdin; rank 0 prints ms by size and variant."""
    import torch

    started = engine_named(engine).start(slots_of(WORLD_SIZE)[number])

    def ours(tensor: torch.Tensor, name: str) -> None:
        started.wait(started.allreduce_async_(tensor, name=name))

    variants = {"ours": ours, "raw": raw_call(engine)}
    tensors = {size: torch.ones(size) for size in SIZES}
    for turn in sys.stdin:
        found: dict[str, float] = {}
        order = list(variants) if int(turn) % 2 else list(reversed(variants))
        for size, tensor in tensors.items():
            for name in order:
                started.barrier(name="ready")
                begun = time.perf_counter()
                for _ in range(CALLS):
                    variants[name](tensor, f"{name}{size}")
                found[f"{size} {name}"] = (time.perf_counter() - begun) / CALLS * 1e3
        if number == 0:
            print(json.dumps(found), flush=True)
    started.shutdown()


def raw_call(engine: str) -> Callable[..., None]:
    """Return the mean as a hand-written script would take it."""
    if engine == "horovod":
        import horovod.torch as hvd

        return lambda tensor, name: hvd.synchronize(hvd.allreduce_async_(tensor, name=name))
    import torch.distributed as dist

    def mean(tensor, name):
        dist.all_reduce(tensor)
        tensor.div_(WORLD_SIZE)

    return mean


def start_ranks(engine: str, stack: ExitStack) -> list[subprocess.Popen[str]]:
    factory = engine_named(engine)
    slots = slots_of(WORLD_SIZE)
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    rendezvous = stack.enter_context(factory.rendezvous(Path(folder), slots))
    return [
        subprocess.Popen(
            [sys.executable, __file__, "--rank", engine, str(number)],
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number, environ in enumerate(factory.environment(slots, rendezvous))
    ]


def take_turns(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return every round's ms by engine and by 'size variant'; the first round is left out."""
    found: dict[str, dict[str, list[float]]] = {engine: {} for engine in ENGINES}
    with ExitStack() as stack:
        gangs = {engine: start_ranks(engine, stack) for engine in ENGINES}
        for turn in range(rounds + 1):
            for engine, ranks in gangs.items():
                for one in ranks:
                    print(turn, file=one.stdin, flush=True)
                row = json.loads(ranks[0].stdout.readline())
                for name, value in row.items() if turn else ():
                    found[engine].setdefault(name, []).append(value)
        for ranks in gangs.values():
            for one in ranks:
                one.stdin.close()
                one.wait(60)
    return found


def report(found: dict[str, dict[str, list[float]]]) -> bool:
    """Print the table; return whether every ratio is within LIMIT."""
    fine = True
    print(f"{'engine':<9}{'elements':>10}{'ours':>16}{'raw':>16}{'ours/raw':>10}")
    for engine, series in found.items():
        for size in SIZES:
            ours, raw = series[f"{size} ours"], series[f"{size} raw"]
            ratio = paired(ours, raw)
            fine &= ratio <= LIMIT
            print(f"{engine:<9}{size:>10}{shown(ours):>16}{shown(raw):>16}{ratio:>10.2f}")
    for size in SIZES:
        horovod, ddp = (found[engine][f"{size} ours"] for engine in ENGINES)
        print(f"horovod / ddp, {size} elements, ours: {paired(horovod, ddp):.2f}")
    return fine


def paired(values: list[float], others: list[float]) -> float:
    """Return the median of the rounds' ratios: what else the machine does falls on both."""
    return statistics.median(one / other for one, other in zip(values, others, strict=True))


def shown(values: list[float]) -> str:
    lowest = statistics.quantiles(values, n=10)[0]
    return f"{lowest:.2f} ({statistics.median(values):.2f})"


def main() -> int:
    if sys.argv[1:2] == ["--rank"]:
        rank(sys.argv[2], int(sys.argv[3]))
        return 0
    parser = argparse.ArgumentParser(description="ours against the raw libraries")
    parser.add_argument("--rounds", type=int, default=20)
    return 0 if report(take_turns(parser.parse_args().rounds)) else 1


if __name__ == "__main__":
    sys.exit(main())
