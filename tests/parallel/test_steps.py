"""Steps count once an iteration, whichever optimizer runs, and each model's epochs are its own."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nbaas.engines.base import engine_named
from nbaas.parallel.session import Session, activate
from nbaas.records import Slot


class Seen:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.rates: list[float] = []

    def step(self, step: int, epoch: int, values: dict[str, float]) -> None:
        self.steps.append((step, epoch))
        self.rates.append(values["lr"])

    def progress(self, batch: int, batches: int | None, epoch: int) -> None:
        """Told after each step that counts."""


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def session(seen: Seen) -> Iterator[Session]:
    slot = Slot(0, 0, 1, "here")
    started = activate(engine_named("serial").start(slot), seen)
    yield started
    started.close()


def optimizer(rate: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=rate)


def loader(rows: int = 8, batch: int = 2) -> DataLoader:
    return DataLoader(TensorDataset(torch.zeros(rows, 2)), batch)


def counted(first: int, last: int, epochs: list[int]) -> list[tuple[int, int]]:
    return list(zip(range(first, last + 1), epochs, strict=True))


def test_models_that_train_one_after_another_count_on(session: Session, seen: Seen):
    batches = loader()
    for rate in (0.1, 0.2, 0.3):
        own = optimizer(rate)
        for _ in range(3):
            for _ in batches:
                own.step()
    assert seen.steps == counted(1, 36, 3 * ([1] * 4 + [2] * 4 + [3] * 4))
    assert seen.rates == [0.1] * 12 + [0.2] * 12 + [0.3] * 12
    assert session.facts()["steps"] == 36


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.usefixtures("session")
def test_a_shorter_run_after_a_longer_one_counts_too(seen: Seen, *, kept: bool):
    held = []
    for passes, batch in ((3, 2), (2, 8)):
        own, batches = optimizer(), loader(batch=batch)
        held += [own] * kept
        for _ in range(passes):
            for _ in batches:
                own.step()
    assert seen.steps == counted(1, 14, [1] * 4 + [2] * 4 + [3] * 4 + [1, 2])


@pytest.mark.usefixtures("session")
def test_loops_without_a_loader_count_on(seen: Seen):
    own = [optimizer(), optimizer()]
    for each in own:
        for _ in range(5):
            each.step()
    assert [step for step, _ in seen.steps] == list(range(1, 11))


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [(1, 1, 4), (5, 1, 20), (1, 2, 8), (5, 2, 20)],
    ids=["gan", "critic", "two of the second", "both repeat"],
)
@pytest.mark.usefixtures("session")
def test_two_optimizers_of_one_iteration_count_it_once(seen: Seen, first, second, counts):
    critic, generator = optimizer(0.1), optimizer(0.2)
    for _ in range(2):
        for _ in loader(rows=4):
            for _ in range(first):
                critic.step()
            for _ in range(second):
                generator.step()
    assert [step for step, _ in seen.steps] == list(range(1, counts + 1))


@pytest.mark.usefixtures("session")
def test_two_optimizers_without_a_loader_count_an_iteration_once(seen: Seen):
    critic, generator = optimizer(), optimizer()
    for _ in range(6):
        for _ in range(3):
            critic.step()
        generator.step()
    assert len(seen.steps) == 18


@pytest.mark.usefixtures("session")
def test_a_gan_after_pretraining_counts_on_once_an_iteration(seen: Seen):
    alone, critic, generator = optimizer(), optimizer(), optimizer()
    batches = loader()
    for _ in range(2):
        for _ in batches:
            alone.step()
    for _ in range(2):
        for _ in batches:
            critic.step()
            generator.step()
    assert seen.steps == counted(1, 16, [1] * 4 + [2] * 4 + [1] * 4 + [2] * 4)


@pytest.mark.usefixtures("session")
def test_optimizers_that_take_turns_by_the_epoch_keep_their_own_epochs(seen: Seen):
    critic, generator, batches = optimizer(), optimizer(), loader()
    for _ in range(3):
        for each in (critic, generator):
            for _ in batches:
                each.step()
    assert seen.steps == counted(1, 24, [1] * 8 + [2] * 8 + [3] * 8)


def test_a_count_goes_on_where_it_was_marked(session: Session, seen: Seen):
    batches = loader()
    first, second = optimizer(), optimizer()
    for each in (first, second):
        for _ in range(2):
            for _ in batches:
                each.step()
    place, own, feed = pickle.loads(pickle.dumps((session.mark(), second, batches)))
    session.count.restore({**session.count.state(), "steps": 0, "counts": []})
    session.go_to(place)
    for _ in feed:
        own.step()
    assert seen.steps[-5:] == [(16, 2), (17, 3), (18, 3), (19, 3), (20, 3)]
