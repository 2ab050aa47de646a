"""How optimizer steps count: once an iteration, whichever optimizer of the cell runs now.

Two networks that train together, as in a GAN, step two optimizers in one iteration: it counts once.
Models that train one after another count on.  Rule: an optimizer behind the count lags, and its steps
go uncounted, until one that lags comes round again before the count has moved: then those that lag
have taken over, and their steps add up from there.  Nothing takes over within the pass over a loader
in which the count moved last: that is an inner loop of the same iteration.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim.optimizer import Optimizer

    from nbaas.parallel.loaders import GlobalBatches

Step = tuple[int, int, dict[str, float]]  # step, epoch, values: what an observer is told


@dataclass(frozen=True, slots=True)
class Lag:
    """A step that did not count: the pass that fed it, which one of its loader's, what it had to tell."""

    feed: GlobalBatches | None
    passes: int
    values: dict[str, float]


class StepCount:
    """The optimizer steps of one cell."""

    def __init__(self) -> None:
        self.steps = 0
        self.epoch = 0
        # How far each optimizer is; the furthest is where the count is.
        self.counts: weakref.WeakKeyDictionary[Optimizer, int] = weakref.WeakKeyDictionary()
        self.epochs: weakref.WeakKeyDictionary[Optimizer, int] = weakref.WeakKeyDictionary()
        self.lagging: dict[Optimizer, Lag] = {}  # since the count has moved
        self._feed: GlobalBatches | None = None  # where the count moved last

    def add(
        self, optimizer: Optimizer, feed: GlobalBatches | None, tell: Callable[[], dict[str, float]]
    ) -> Iterator[Step]:
        """Yield what counts now that `optimizer` has made a step: nothing, this step, or two."""
        self.counts[optimizer] = self.counts.get(optimizer, 0) + 1
        if self.counts[optimizer] <= self.steps:
            if optimizer not in self.lagging:
                live = feed if feed is not None and not feed.ended else None
                self.lagging[optimizer] = Lag(live, live.source.passes if live else 0, tell())
                return
            if feed is not None and feed is self._feed and not feed.ended:
                return
            yield self._take_over()
            self.counts[optimizer] = self.steps + 1
        self.steps = self.counts[optimizer]
        self.epoch = self.epochs[optimizer] = feed.epoch if feed is not None else 0
        self.lagging.clear()
        self._feed = feed
        yield self.steps, self.epoch, tell()

    def _take_over(self) -> Step:
        """Count the first turn of those that lag, whose epochs are their own from here on."""
        self.steps += 1
        self.counts.clear()
        self.counts.update(dict.fromkeys(self.lagging, self.steps))
        optimizer, first = next(iter(self.lagging.items()))
        if first.feed is not None:
            self.epoch = self.epochs.get(optimizer, 0) + 1
            first.feed.source.earlier = first.passes - self.epoch
        return self.steps, self.epoch, first.values

    def state(self) -> dict[str, Any]:
        """Return the counts, to be pickled with their optimizers; a pass itself cannot travel."""
        return {
            "steps": self.steps,
            "epoch": self.epoch,
            "counts": list(self.counts.items()),
            "epochs": list(self.epochs.items()),
            "lagging": [(optimizer, lag.values) for optimizer, lag in self.lagging.items()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.steps, self.epoch = state["steps"], state["epoch"]
        self.counts = weakref.WeakKeyDictionary(state["counts"])
        self.epochs = weakref.WeakKeyDictionary(state["epochs"])
        self.lagging = {optimizer: Lag(None, 0, values) for optimizer, values in state["lagging"]}
        self._feed = None
