"""Random numbers: in step on all ranks outside the model, apart for each rank inside it."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from nbaas.parallel.world import World


class Randomness:
    """Keeps the ranks' generators in step, and forks them inside models that draw."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.draws = False  # some model has drawn: dropout, sampling
        self.calls = 0

    @contextlib.contextmanager
    def inside_model(self) -> Iterator[None]:
        """Give each rank its own stream inside a model; outside, all go on from one state.

        A model that has never drawn costs one comparison of states; from its first draw on, streams
        are forked.
        """
        before = torch.get_rng_state()
        self.calls += 1
        if self.draws:
            torch.manual_seed(_mixed(before, self.calls, self.world.rank))
        try:
            yield
        finally:
            if self.draws:
                torch.set_rng_state(before)
                torch.empty((), dtype=torch.int64).random_()  # the next call draws anew
            elif not torch.equal(before, torch.get_rng_state()):
                self.draws = True
                torch.set_rng_state(before)
                torch.empty((), dtype=torch.int64).random_()

    def check(self) -> None:
        """Bring the ranks back in step if their generators differ; every rank must call it."""
        states = (torch.get_rng_state(), np.random.get_state(), random.getstate())
        digest = hashlib.sha256(states[0].numpy().tobytes() + repr(states[1:]).encode()).hexdigest()
        if len(set(self.world.gather_objects(digest))) == 1:
            return
        self.world.notes["random numbers"] = "ranks drew unequally and were brought in step"
        self.align()

    def align(self) -> None:
        """Give every rank the generators of rank 0; every rank must call it."""
        states = (torch.get_rng_state(), np.random.get_state(), random.getstate())
        torch_state, numpy_state, python_state = self.world.broadcast_object(states)
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def _mixed(state: torch.Tensor, *numbers: int) -> int:
    digest = hashlib.blake2b(state.numpy()[:64].tobytes() + repr(numbers).encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "little") >> 1


def in_step(seed: int, *, cuda: bool = True) -> Any:
    """Seed torch, numpy and random alike on every rank."""
    torch.manual_seed(seed)
    np.random.seed(seed % (1 << 32))
    random.seed(seed)
    return cuda
