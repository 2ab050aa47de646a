"""What the host tells a replica; light, for the host loads neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """What a replica is told by the host."""

    directory: str  # of the version
    socket: str  # where it listens for the gateway
    version: str
    name: str
    ready: int  # descriptor: one JSON line once it can serve, or why it cannot
    lifeline: int
    parent: int
    max_batch: int = 0  # 0: chosen here
    max_wait: float = 0.0  # seconds
    max_body: int = 16 << 20
    device: str = "auto"
    engine: str = "torch"  # torch | onnx: what the manifest says
    threads: int = 1
    index: int = 0  # among the replicas of its version: the GPU it takes
