"""How long a rank waits for others: its engine's collectives, with a clock around them."""

from __future__ import annotations

import time
from typing import Any

from nbaas.engines.base import Engine, Handle


class TimedEngine:
    """An engine that adds up in `waited` the seconds which its callers spent in collectives."""

    def __init__(self, engine: Engine) -> None:
        self.waited = 0.0
        self._engine = engine
        self.name = engine.name
        self.rank = engine.rank
        self.world_size = engine.world_size
        # Starting a reduction waits for nobody.
        self.allreduce_async_ = engine.allreduce_async_

    def wait(self, handle: Handle) -> None:
        began = time.perf_counter()
        self._engine.wait(handle)
        self.waited += time.perf_counter() - began

    def allgather(self, tensor: Any, *, name: str) -> Any:
        began = time.perf_counter()
        gathered = self._engine.allgather(tensor, name=name)
        self.waited += time.perf_counter() - began
        return gathered

    def broadcast_(self, tensor: Any, *, root: int = 0, name: str) -> None:
        began = time.perf_counter()
        self._engine.broadcast_(tensor, root=root, name=name)
        self.waited += time.perf_counter() - began

    def allgather_object(self, value: Any, *, name: str) -> list[Any]:
        began = time.perf_counter()
        values = self._engine.allgather_object(value, name=name)
        self.waited += time.perf_counter() - began
        return values

    def broadcast_object(self, value: Any, *, root: int = 0, name: str) -> Any:
        began = time.perf_counter()
        found = self._engine.broadcast_object(value, root=root, name=name)
        self.waited += time.perf_counter() - began
        return found

    def barrier(self, *, name: str) -> None:
        began = time.perf_counter()
        self._engine.barrier(name=name)
        self.waited += time.perf_counter() - began

    def shutdown(self) -> None:
        self._engine.shutdown()
