"""Curves of a run: every point is kept here, a front end gets as many as it can draw.

Rule: decimation keeps the lowest and the highest point of each bucket, and every NaN and infinity,
so that a peak or a blow-up is never smoothed away.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Points = tuple[np.ndarray, np.ndarray]  # steps float64, values float32
POINTS_DRAWN = 2000  # of one curve, about one per pixel and its peaks
MOST_CURVES = 64  # of one run that a front end draws; what is more is in the table
SCORES = ("acc", "f1", "precision", "recall", "auc", "score", "iou", "dice", "bleu", "r2")


def group_of(name: str) -> str:
    """Return which chart a curve belongs to: loss, score, learning rate, or its own name."""
    low = name.lower()
    if "loss" in low or low.endswith(("mse", "mae", "nll", "perplexity")):
        return "loss"
    if any(score in low for score in SCORES):
        return "score"
    if low == "lr" or low.startswith("lr/") or "learning_rate" in low:
        return "learning rate"
    return name.split("/", maxsplit=1)[0]


@dataclass(slots=True)
class Curve:
    """One series: `steps` never falling, a value for each; NaN and infinities as they came."""

    name: str
    steps: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))
    best: float = math.nan  # lowest of a loss, highest of a score
    rewound: int = 0  # times it went back, and what came after was forgotten
    of: str = ""  # what it measures, where its name says of which job as well
    job: int | None = None  # its place among jobs that are compared

    @property
    def group(self) -> str:
        return group_of(self.of or self.name)

    @property
    def last(self) -> float:
        return self.values[-1] if self.values else math.nan

    def append(self, step: float, value: float) -> None:
        if self.steps and step < self.steps[-1]:
            self._rewind(step)
        self.steps.append(step)
        self.values.append(value)
        if math.isfinite(value) and self._improves(value):
            self.best = value

    def points(
        self, first: int = 0, limit: int = POINTS_DRAWN, between: tuple[float, float] | None = None
    ) -> Points:
        """Return at most about `limit` (steps float64, values float32) from index `first` on.

        `between` limits them to a range of steps, with one point more on each side.
        """
        # Copies: a view would forbid the array to grow while somebody holds it.
        steps = np.array(self.steps[first:], dtype=np.float64)
        values = np.array(self.values[first:], dtype=np.float64)
        if between is not None:
            low = max(int(np.searchsorted(steps, between[0])) - 1, 0)
            high = int(np.searchsorted(steps, between[1], side="right")) + 1
            steps, values = steps[low:high], values[low:high]
        kept = decimate(values, limit)
        return steps[kept], values[kept].astype(np.float32)

    def _rewind(self, step: float) -> None:
        """Forget what lies at `step` or after it: the job went back to a checkpoint."""
        kept = bisect_left(self.steps, step)
        del self.steps[kept:], self.values[kept:]
        self.rewound += 1
        finite = [value for value in self.values if math.isfinite(value)]
        pick = max if self.group == "score" else min
        self.best = pick(finite, default=math.nan)

    def _improves(self, value: float) -> bool:
        if math.isnan(self.best):
            return True
        return value > self.best if self.group == "score" else value < self.best


def decimate(values: np.ndarray, limit: int) -> np.ndarray:
    """Return the indices to draw: all up to `limit`, else extremes by bucket and all non-finite.

    (N,) float -> (<= limit + number of non-finite values,) int64, rising; first and last are kept.
    """
    count = len(values)
    if count <= limit:
        return np.arange(count)
    buckets = max(limit // 2 - 1, 1)
    edges = np.linspace(0, count, buckets + 1).astype(np.int64)
    finite = np.isfinite(values)
    lowest = _extremes(np.where(finite, values, np.inf), edges, np.minimum)
    highest = _extremes(np.where(finite, values, -np.inf), edges, np.maximum)
    # A run that has blown up is all NaN from there on: the first ones tell it.
    strange = np.flatnonzero(~finite)[:limit]
    return np.unique(np.concatenate([[0, count - 1], lowest, highest, strange]))


def _extremes(values: np.ndarray, edges: np.ndarray, pick: Any) -> np.ndarray:
    """Return the index of the first extreme of each bucket between `edges`."""
    bests = np.repeat(pick.reduceat(values, edges[:-1]), np.diff(edges))
    hits = np.flatnonzero(values == bests)
    buckets = np.searchsorted(edges, hits, side="right")
    _, first = np.unique(buckets, return_index=True)
    return hits[first]


class Curves:
    """The curves of a run by name, in the order they first appeared."""

    def __init__(self) -> None:
        self.by_name: dict[str, Curve] = {}

    def append(self, step: float, values: dict[str, float]) -> None:
        for name, value in values.items():
            curve = self.by_name.get(name)
            if curve is None:
                curve = self.by_name[name] = Curve(name)
            curve.append(step, value)

    def __iter__(self) -> Iterator[Curve]:
        return iter(self.by_name.values())

    def groups(self) -> dict[str, list[Curve]]:
        """Return the curves that share a chart, losses and scores first."""
        found: dict[str, list[Curve]] = {"loss": [], "score": []}
        for curve in self.by_name.values():
            found.setdefault(curve.group, []).append(curve)
        return {group: curves for group, curves in found.items() if curves}


def packed(points: Sequence[Points]) -> list[bytes]:
    """Return x (float64) and y (float32) of each curve as the buffers of one comm message."""
    return [part.tobytes() for pair in points for part in pair]
