"""What the semantic layer tells about the loop, passed on to journal and counters."""

from __future__ import annotations

import time

from nbaas.worker.metrics import MetricsWriter
from nbaas.worker.progress import ProgressWriter
from nbaas.worker.vitals import Vitals


class Observer:
    """Receives every step and batch on the training thread; a call costs a few microseconds."""

    def __init__(self, metrics: MetricsWriter, progress: ProgressWriter, vitals: Vitals) -> None:
        self._metrics = metrics
        self._progress = progress
        self._vitals = vitals
        self._last = 0.0  # of the first step: what came before it was no training

    def step(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """Note that optimizer step `step` of pass `epoch` is done."""
        now = time.perf_counter()
        vitals = self._vitals
        vitals.step, vitals.epoch = step, epoch
        vitals.stepping += now - self._last if self._last else 0.0
        self._last = now
        self._progress.step(step, epoch)
        self._metrics.add(step, epoch, values)

    def progress(self, batch: int, batches: int | None, epoch: int) -> None:
        """Note that batch `batch` of `batches` (None: nobody knows) of pass `epoch` was fetched."""
        self._vitals.epoch = epoch
        self._progress.batch(batch, batches)
