"""Random numbers: in step on all ranks outside the model, apart for each rank inside it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import numpy as np
import torch

from nbaas.parallel.world import World


class Randomness:
    """Keeps the ranks' generators in step, and forks them inside models that draw out of sight."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.draws = False  # some model has drawn where `draws` cannot see it
        self.calls = 0
        self.shared = torch.get_rng_state()  # the state that all ranks share, within a call

    def enter_model(self) -> torch.Tensor:
        """Return the state of all ranks as a split call begins; hand it to `leave_model`.

        Once a model has drawn out of sight, each rank gets a stream of its own in every call.
        """
        before = self.shared = torch.get_rng_state()
        self.calls += 1
        if self.draws:
            torch.default_generator.manual_seed(_mixed(before, self.calls, self.world.rank))
        return before

    def in_step(self, draw: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return a draw that every rank makes alike."""
        value = draw()
        self.shared = torch.get_rng_state()
        return value

    def leave_model(self) -> None:
        """Go on from the state of all ranks, moved on by a draw if this call drew out of sight."""
        if not self.draws and torch.equal(self.shared, torch.get_rng_state()):
            return
        self.draws = True
        torch.set_rng_state(self.shared)
        torch.empty((), dtype=torch.int64).random_()

    def check(self) -> None:
        """Bring the ranks back in step if their generators differ; every rank must call it."""
        states = (torch.get_rng_state(), np.random.get_state(), random.getstate())
        digest = hashlib.blake2b(states[0].numpy().tobytes(), digest_size=16)
        name, keys, *place = states[1]
        digest.update(np.asarray(keys).tobytes() + repr((name, place, states[2])).encode())
        # Whole numbers, whose squares and sums float64 holds exactly: equal where mean and square agree.
        words = np.frombuffer(digest.digest(), dtype=np.uint16).astype(np.float64)
        mine = torch.from_numpy(np.concatenate([words, words * words]))
        everyone = self.world.mean(mine)
        spread = everyone[len(words) :] - everyone[: len(words)] ** 2
        if not bool((spread != 0).any()):
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
