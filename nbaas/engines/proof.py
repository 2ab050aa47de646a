"""Two ranks that sum a tensor: the proof that an engine works here.

`python -m nbaas.engines.proof ENGINE RANK WORLD_SIZE` is one of its ranks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from nbaas.engines.base import engine_named
from nbaas.errors import EngineError
from nbaas.records import Slot

PROOF_TIMEOUT = 120.0  # seconds; importing torch on a loaded machine takes most of it


def slots_of(world_size: int) -> tuple[Slot, ...]:
    return tuple(
        Slot(rank=rank, local_rank=rank, world_size=world_size, host="localhost")
        for rank in range(world_size)
    )


def prove(engine: str, world_size: int = 2) -> str:
    """Return what the ranks found, as a line; raises EngineError with a failing rank's words."""
    factory = engine_named(engine)
    slots = slots_of(world_size)
    with (
        tempfile.TemporaryDirectory(prefix="nbaas-proof-") as folder,
        factory.rendezvous(Path(folder), slots) as rendezvous,
    ):
        ranks = [
            subprocess.Popen(
                [sys.executable, "-m", "nbaas.engines.proof", engine, str(rank), str(world_size)],
                env=os.environ | {"OMP_NUM_THREADS": "1"} | environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank, environ in enumerate(factory.environment(slots, rendezvous))
        ]
        said = [_last_words(rank) for rank in ranks]
    for number, (rank, words) in enumerate(zip(ranks, said, strict=True)):
        if rank.returncode:
            raise EngineError(f"{engine} does not work here: rank {number} said {words!r}")
    return f"{world_size} ranks over {engine}: {said[0]}"


def _last_words(rank: subprocess.Popen[str]) -> str:
    try:
        output, _ = rank.communicate(timeout=PROOF_TIMEOUT)
    except subprocess.TimeoutExpired:
        rank.kill()
        output, _ = rank.communicate()
        output += f"\nno answer within {PROOF_TIMEOUT:g} s"
    return (output.strip().splitlines() or [f"nothing, exit code {rank.returncode}"])[-1]


def _rank(engine: str, rank: int, world_size: int) -> None:
    import torch

    started = engine_named(engine).start(slots_of(world_size)[rank], timeout=PROOF_TIMEOUT / 2)
    tensor = torch.full((4,), float(rank + 1), dtype=torch.float64)
    started.wait(started.allreduce_async_(tensor, name="proof", average=False))
    expected = world_size * (world_size + 1) / 2
    if tensor.tolist() != [expected] * 4:
        sys.exit(f"the sum is {tensor.tolist()}, not {expected}")
    started.shutdown()
    terms = " + ".join(str(term + 1) for term in range(world_size))
    sys.stdout.write(f"{terms} = {tensor[0].item():g}\n")


if __name__ == "__main__":
    _rank(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
