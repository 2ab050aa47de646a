"""Steps per second: hand-written Horovod, hand-written DDP, and the unchanged cell under nbaas.

All in the same two ranks, round by round, each round in another order; prints the median of the rounds'
ratios with their quartiles.  Takes a minute.
Run: `OMP_NUM_THREADS=1 python tests/benchmarks/semantics.py [--ranks 2] [--rounds 9] [--only mlp]`
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nbaas.engines.base import engine_named
from nbaas.placement import HostResources, place

STEPS = {"mlp": 150, "cnn": 16, "transformer": 3}
BATCH = {"mlp": 64, "cnn": 16, "transformer": 8}


def problem(name):
    """Return model, loss, dataset of `name`; the same on every rank."""
    import torch
    from torch import nn
    from torch.utils.data import TensorDataset

    torch.manual_seed(0)
    rows = STEPS[name] * BATCH[name]
    if name == "mlp":
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        data = torch.randn(rows, 64)
    elif name == "cnn":
        model = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(64, 10),
        )  # fmt: skip
        data = torch.randn(rows, 3, 32, 32)
    else:
        layer = nn.TransformerEncoderLayer(320, 8, 1280, dropout=0.0, batch_first=True)
        encoder = nn.TransformerEncoder(layer, 8, enable_nested_tensor=False)
        model = nn.Sequential(encoder, nn.Flatten(), nn.Linear(320 * 16, 10))
        data = torch.randn(rows, 16, 320)
    return model, nn.CrossEntropyLoss(), TensorDataset(data, torch.randint(0, 10, (rows,)))


def loop(model, loss_fn, loader, optimizer):
    """An ordinary epoch; the loss is read at each step, as most cells do."""
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total


def hand_written(name, way, rank, size):
    import torch
    from torch.utils.data import DataLoader
    from torch.utils.data.distributed import DistributedSampler

    model, loss_fn, data = problem(name)
    sampler = DistributedSampler(data, size, rank, shuffle=True)
    loader = DataLoader(data, batch_size=BATCH[name] // size, sampler=sampler)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    if way == "ddp":
        model = torch.nn.parallel.DistributedDataParallel(model)
    else:
        import horovod.torch as hvd

        optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())

    def run():
        start = time.perf_counter(), time.process_time()
        loop(model, loss_fn, loader, optimizer)
        return start

    return run


def under_nbaas(name, engine):
    import torch
    from torch.utils.data import DataLoader

    from nbaas import parallel

    class Silent:
        def step(self, *_): ...
        def progress(self, *_): ...

    model, loss_fn, data = problem(name)
    loader = DataLoader(data, batch_size=BATCH[name], shuffle=True)
    few = DataLoader(torch.utils.data.Subset(data, range(BATCH[name])), batch_size=BATCH[name])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def run():
        session = parallel.activate(engine, Silent(), rank_scratch=Path(tempfile.gettempdir()))
        try:
            loop(model, loss_fn, few, optimizer)  # the probe of a session's first step, not timed
            engine.barrier(name="bench")
            start = time.perf_counter(), time.process_time()
            loop(model, loss_fn, loader, optimizer)
            return start
        finally:
            session.close()

    return run


def rank_main(args):
    slot = place(HostResources("localhost", args.ranks), ranks=args.ranks)[args.rank]
    engines = {name: engine_named(name).start(slot) for name in ("horovod", "ddp")}
    for name in args.only.split(","):
        ways = {
            "hand-written Horovod": hand_written(name, "horovod", slot.rank, slot.world_size),
            "hand-written DDP": hand_written(name, "ddp", slot.rank, slot.world_size),
            "nbaas on Horovod": under_nbaas(name, engines["horovod"]),
            "nbaas on ddp": under_nbaas(name, engines["ddp"]),
        }
        seconds = {way: [] for way in ways}
        cpu = {way: [] for way in ways}
        for turn in range(args.rounds + 1):
            order = list(ways)[turn % len(ways) :] + list(ways)[: turn % len(ways)]
            for way in order:
                run = ways[way]
                engines["ddp"].barrier(name="bench")
                start, cpu_start = run()
                if turn:
                    seconds[way].append((time.perf_counter() - start) / STEPS[name])
                    cpu[way].append((time.process_time() - cpu_start) / STEPS[name])
        if slot.rank == 0:
            report(name, seconds, cpu)
    engines["ddp"].barrier(name="end")
    for engine in engines.values():
        engine.shutdown()


def report(name, seconds, cpu):
    print(f"{name}: ms a step, median (min to max) of {len(next(iter(seconds.values())))} rounds")
    for way, taken in seconds.items():
        ms = sorted(1000 * t for t in taken)
        busy = statistics.median(cpu[way]) * 1000
        spread = f"({ms[0]:.3f} to {ms[-1]:.3f})"
        print(f"  {way:22s} {statistics.median(ms):8.3f} {spread}, CPU {busy:.3f}", flush=True)
    for engine, peer in (("Horovod", "hand-written Horovod"), ("ddp", "hand-written DDP")):
        ratios = [a / b for a, b in zip(seconds[peer], seconds[f"nbaas on {engine}"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"  steps/s, nbaas on {engine} / {peer}: {middle:.2f} (quartiles {low:.2f} to {high:.2f})"
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="mlp,cnn,transformer")
    parser.add_argument("--rank", type=int, default=None)
    args = parser.parse_args()
    if args.rank is not None:
        rank_main(args)
        return
    slots = place(HostResources("localhost", args.ranks), ranks=args.ranks)
    environments = [{} for _ in slots]
    meetings = []
    for name in ("horovod", "ddp"):
        factory = engine_named(name)
        meeting = factory.rendezvous(Path(tempfile.mkdtemp()), slots)
        meetings.append(meeting)
        for environment, more in zip(
            environments, factory.environment(slots, meeting), strict=True
        ):
            environment.update(more)
    ranks = [
        subprocess.Popen([sys.executable, __file__, *sys.argv[1:], "--rank", str(slot.rank)],
                         env={**os.environ, "OMP_NUM_THREADS": "1", **environments[slot.rank]})
        for slot in slots
    ]  # fmt: skip
    codes = [rank.wait() for rank in ranks]
    for meeting in meetings:
        meeting.close()
    sys.exit(max(codes))


if __name__ == "__main__":
    main()
