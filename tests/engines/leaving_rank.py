"""Rank 1 is killed between two collectives; the others print what they are told, and when."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import torch

from nbaas.engines.base import engine_named
from nbaas.errors import EngineError
from nbaas.records import Slot, from_json

slot = from_json(Slot, json.loads(sys.argv[2]))
engine = engine_named(sys.argv[1]).start(slot, timeout=60)
engine.barrier(name="all here")
if slot.rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
started = time.monotonic()
try:
    engine.wait(engine.allreduce_async_(torch.ones(4), name="gradients"))
except EngineError as error:
    print(json.dumps({"error": str(error), "seconds": time.monotonic() - started}))
