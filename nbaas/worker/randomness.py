"""The same random numbers on every rank: outside the model all ranks must draw alike."""

from __future__ import annotations

import random
import sys
import zlib

SEED_BITS = 32  # what numpy takes


def seed_of(job_id: str, given: int | None) -> int:
    """Return the seed of a job: the one asked for, else one that follows from its id."""
    return given % (1 << SEED_BITS) if given is not None else zlib.crc32(job_id.encode())


def seed_all(seed: int) -> None:
    """Seed random, torch and, where something has imported it, numpy."""
    import torch

    random.seed(seed)
    torch.manual_seed(seed)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(seed)
