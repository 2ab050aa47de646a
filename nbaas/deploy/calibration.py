"""The batch size of a model on this machine, by measurement; the measuring warms it up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from nbaas.deploy.manifest import VersionManifest

LARGEST_BATCH = 128
CALIBRATION = 0.25  # seconds
BATCH_BYTES = 64 << 20  # of input in one batch
GAIN = 0.95  # a larger batch must take at most this share of the time for each row


class Runner(Protocol):
    """A model behind arrays."""

    manifest: VersionManifest

    def run_arrays(self, arrays: list[Any]) -> list[Any]: ...


def warmed(runner: Runner, golden: list[Any], max_batch: int) -> int:
    """Run `runner` on its golden input; return its batch size, `max_batch` unless that is 0."""
    if not runner.manifest.batchable:
        return 1
    if not max_batch:
        return best_batch(lambda rows: runner.run_arrays(repeated(golden, rows)), golden)
    for rows in sorted({1, 2, max_batch}):
        runner.run_arrays(repeated(golden, rows))
    return max_batch


def repeated(arrays: list[Any], rows: int) -> list[Any]:
    """Return inputs of `rows` rows, all like the first one."""
    return [np.repeat(array[:1], rows, axis=0) for array in arrays]


def best_batch(
    run: Callable[[int], object],
    arrays: list[Any],
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """Return the batch size beyond which a row gets no cheaper, measured within CALIBRATION.

    On a CPU larger is not better: a convolution gains up to 4 or 8 rows and then loses its cache.
    """
    row_bytes = max(1, sum(array[:1].nbytes for array in arrays))
    began = clock()
    best, cheapest, size = 1, _seconds(run, 1, clock), 2
    while size <= LARGEST_BATCH and size * row_bytes <= BATCH_BYTES:
        each = _seconds(run, size, clock) / size
        if each < cheapest * GAIN:
            best, cheapest = size, each
        # Four times the best without gain: it will not come any more.
        if size >= 4 * best or clock() - began > CALIBRATION:
            break
        size *= 2
    return best


def _seconds(run: Callable[[int], object], rows: int, clock: Callable[[], float]) -> float:
    """Return the shorter of two runs, after one that warms up."""
    run(rows)
    times = []
    for _ in range(2):
        began = clock()
        run(rows)
        times.append(clock() - began)
    return min(times)
