"""Curves of bounded size: however many rows a job writes, what is kept and sent stays small.

Rule: a peak survives.  Each bucket of steps keeps its lowest and its highest value where they were;
when there are too many buckets, neighbours are joined.  Of the values in a bucket that are no
number the first is kept, so that a blow-up is seen.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BUCKETS = 2048
NAMES = 64  # curves of one job that are kept
SAMPLE_INTERVAL = 0.5  # seconds
STRANGE = {"inf": math.inf, "-inf": -math.inf}  # as a journal holds them; the rest is no number
Point = tuple[int, float]


def number(value: Any) -> float:
    """Return a metric's value from its place in a journal; NaN for what is no number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return STRANGE.get(value, math.nan) if isinstance(value, str) else math.nan


@dataclass(slots=True)
class Curve:
    """One series: steps ascending, at most 4 * BUCKETS points, in buckets of `width` rows."""

    width: int = 1
    buckets: list[tuple[Point, ...]] = field(default_factory=list)
    last: Point | None = None
    filled: int = 0  # rows in the last bucket
    # Lowest and highest of the last bucket, where known and without a gap: for speed only.
    _span: tuple[Point, Point] | None = field(default=None, repr=False, compare=False)

    def append(self, step: int, value: float) -> None:
        if self.last is not None and step < self.last[0]:
            self._rewind(step)
        self.last = (step, value)
        if self.buckets and self.filled < self.width:
            self.filled += 1
            span = self._span
            if span is None or not span[0][1] <= value <= span[1][1]:
                self._widen(self.last)
            return
        self.buckets.append((self.last,))
        self.filled = 1
        self._span = (self.last, self.last) if math.isfinite(value) else None
        if len(self.buckets) > 2 * BUCKETS:
            self._halve()

    def points(self, most: int = 4 * BUCKETS) -> list[Point]:
        """Return at most about `most` points: the extremes of joined buckets, in order."""
        group = max(1, math.ceil(2 * len(self.buckets) / max(1, most)))
        joined = (
            _extremes(tuple(p for bucket in self.buckets[i : i + group] for p in bucket))
            for i in range(0, len(self.buckets), group)
        )
        points = [point for bucket in joined for point in bucket]
        if self.last is not None and points[-1][0] != self.last[0]:
            points.append(self.last)
        return points

    def _widen(self, point: Point) -> None:
        """Let the last bucket span one point more."""
        if self._span is not None and math.isfinite(point[1]):
            low, high = self._span
            below = point[1] < low[1]
            self.buckets[-1] = (high if below else low, point)
            self._span = (point, high) if below else (low, point)
            return
        bucket = self.buckets[-1] = _extremes((*self.buckets[-1], point))
        plain = all(math.isfinite(y) for _, y in bucket)
        self._span = (min(bucket, key=_value), max(bucket, key=_value)) if plain else None

    def _rewind(self, step: int) -> None:
        """Forget what came after `step`: the job went back to a checkpoint."""
        while self.buckets and self.buckets[-1][-1][0] >= step:
            kept = tuple(point for point in self.buckets.pop() if point[0] < step)
            if kept:
                self.buckets.append(kept)
        self.filled = self.width
        self._span = None

    def _halve(self) -> None:
        """Join neighbours; the last bucket may stay without one, and is then less full."""
        if len(self.buckets) % 2 == 0:
            self.filled += self.width
        pairs = range(0, len(self.buckets), 2)
        self.buckets = [_extremes(sum(self.buckets[i : i + 2], ())) for i in pairs]
        self.width *= 2
        self._span = None


def _extremes(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """Return the lowest and the highest of the points, and one gap if there is any, by step."""
    known = [point for point in points if math.isfinite(point[1])]
    kept = list(dict.fromkeys((min(known, key=_value), max(known, key=_value)))) if known else []
    kept += [point for point in points if not math.isfinite(point[1])][:1]
    return tuple(sorted(kept, key=_step))


def _value(point: Point) -> float:
    return point[1]


def _step(point: Point) -> int:
    return point[0]


@dataclass(slots=True)
class Curves:
    """All series of one job, fed row by row."""

    by_name: dict[str, Curve] = field(default_factory=dict)
    step: int = 0
    epoch: int = 0
    # Time and step, at most two a second: the last ten seconds, for the rate.
    recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=20))

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a Metric's fields; a row that does not fit is left out."""
        step, moment, values = row.get("step"), row.get("time"), row.get("values")
        if not (isinstance(step, int) and isinstance(moment, int | float)):
            return
        kind = row.get("kind", "train")
        # What a cell logs lies where the cell wants it, which need not be where training is.
        if kind != "log":
            self._move(step, float(moment), int(row.get("epoch") or 0))
        prefix = "" if kind in ("train", "log") else f"{kind}/"
        for key, value in (values if isinstance(values, dict) else {}).items():
            name = f"{prefix}{key}"
            curve = self.by_name.get(name)
            if curve is None:
                if len(self.by_name) >= NAMES:
                    continue
                curve = self.by_name[name] = Curve()
            curve.append(step, number(value))

    def _move(self, step: int, moment: float, epoch: int) -> None:
        self.step, self.epoch = step, epoch
        if self.recent and step < self.recent[-1][1]:
            self.recent.clear()
        if not self.recent or moment - self.recent[-1][0] >= SAMPLE_INTERVAL:
            self.recent.append((moment, step))

    @property
    def steps_per_second(self) -> float | None:
        if len(self.recent) < 2:  # noqa: PLR2004 - a rate needs two moments
            return None
        (start, first), (end, last) = self.recent[0], self.recent[-1]
        return (last - first) / (end - start)

    @property
    def headline(self) -> str:
        """The name of the curve that a list shows: the loss where there is one."""
        if "loss" in self.by_name:
            return "loss"
        names = [name for name in self.by_name if "/" not in name]
        losses = [name for name in names if "loss" in name.lower()]
        return next(iter([*losses, *names]), "")
