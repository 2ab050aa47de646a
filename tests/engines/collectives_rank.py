"""One rank that runs every collective once and prints what it got as one JSON line."""

from __future__ import annotations

import json
import os
import sys

import torch

from nbaas.engines.base import engine_named
from nbaas.errors import UsageError
from nbaas.records import Slot, from_json

slot = from_json(Slot, json.loads(sys.argv[2]))
engine = engine_named(sys.argv[1]).start(slot, timeout=60)
rank = slot.rank


def reduced(tensor: torch.Tensor, name: str, *, average: bool) -> torch.Tensor:
    engine.wait(engine.allreduce_async_(tensor, name=name, average=average))
    return tensor


def refused(tensor: torch.Tensor) -> str:
    try:
        reduced(tensor, "refused", average=True)
    except UsageError as error:
        return str(error)
    return ""


said = {"world": [engine.name, engine.rank, engine.world_size]}
said["mean64"] = reduced(torch.tensor([1.0, 2.0, 4.0]).double() * (rank + 1), "mean", average=True)
said["sum64"] = reduced(torch.tensor([2**53 + 1 + rank]), "sum", average=False)
said["sum32"] = reduced(torch.arange(3, dtype=torch.int32) + rank, "sum32", average=False)
said["third"] = reduced(torch.full((5,), 1.0 / 3.0), "third", average=True)
said["bfloat16"] = reduced(torch.full((2,), 1.5, dtype=torch.bfloat16), "bf", average=True).float()
said["half"] = reduced(torch.full((2,), 2.0, dtype=torch.float16), "half", average=False).float()
said["complex"] = torch.view_as_real(
    reduced(torch.tensor([complex(rank, 1)]), "complex", average=False)
)
transposed = torch.arange(6.0).reshape(2, 3).t()
said["strided"] = reduced(transposed, "strided", average=True)
said["scalar"] = reduced(torch.tensor(3.0), "scalar", average=False)
said["random"] = (
    reduced(torch.rand(1000, generator=torch.Generator().manual_seed(rank)), "random", average=True)
    .double()
    .sum()
)
pending = [
    engine.allreduce_async_(torch.full((2,), float(i)), name=f"p{i}", average=False)
    for i in range(5)
]
for handle in reversed(pending):
    engine.wait(handle)
leaf = torch.ones(2, requires_grad=True)
said["leaf"] = reduced(leaf, "leaf", average=False).detach()
said["int mean"] = refused(torch.ones(2, dtype=torch.int64))
rows = torch.full((rank * 2, 2), rank, dtype=torch.int16)
said["uneven"] = engine.allgather(rows, name="uneven")
said["bools"] = engine.allgather(torch.tensor([rank == 0, True]), name="bools")
said["scalars"] = engine.allgather(torch.tensor(float(rank)), name="scalars")
target = torch.arange(6.0).reshape(2, 3).t() * (rank + 1)
engine.broadcast_(target, root=engine.world_size - 1, name="target")
said["broadcast"] = target
flag = torch.tensor(rank == 0)
engine.broadcast_(flag, name="flag")
said["flag"] = flag
said["objects"] = engine.allgather_object({"rank": rank, "text": "x" * rank * 100}, name="objects")
said["object"] = engine.broadcast_object(["of", rank], root=0, name="object")
said["empty"] = engine.allgather_object(None, name="empty")
for step in range(20):  # the same name again at each step
    said["steps"] = reduced(torch.tensor([float(step)]), "step", average=False)
engine.barrier(name="end")
engine.shutdown()
engine.shutdown()
print(json.dumps({k: v.tolist() if isinstance(v, torch.Tensor) else v for k, v in said.items()}))
# As a rank ends (worker.rank.leave): torch's threads may still run while C++ takes its statics down.
sys.stdout.flush()
os._exit(0)
