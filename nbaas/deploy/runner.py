"""A loaded model behind arrays: what the replica calls for each batch."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nbaas.deploy.load import Loaded, check_golden, load_version

LARGEST_BATCH = 128
CALIBRATION = 0.25  # seconds
BATCH_BYTES = 64 << 20  # of input in one batch
GAIN = 0.95  # a larger batch must take at most this share of the time for each row
# An input made from the bytes of a request is read-only; nothing of ours writes to it.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")


class TorchRunner:
    """Runs arrays through the rebuilt module."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.manifest = loaded.manifest
        self._bf16 = [spec.datatype == "BF16" for spec in self.manifest.signature.inputs]

    def run_arrays(self, arrays: list[Any]) -> list[Any]:
        """Return output arrays (B, ...) for input arrays (B, ...); bfloat16 as its 16 bits."""
        with torch.inference_mode():
            inputs = [_tensor(a, bf16=b) for a, b in zip(arrays, self._bf16, strict=True)]
            return [_array(output) for output in self.loaded.run(inputs)]


def _tensor(array: Any, *, bf16: bool) -> Any:
    if bf16:
        return torch.from_numpy(array.view("<i2")).view(torch.bfloat16)
    return torch.from_numpy(array)


def _array(tensor: Any) -> Any:
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view("<u2")
    return tensor.numpy()


def torch_runner(
    folder: Path, *, device: str, threads: int, max_batch: int
) -> tuple[TorchRunner, int]:
    """Return a warm runner that has given the golden answer, and its batch size.

    Raises: BundleError: a file is damaged.  DeployError: the answer differs from the golden one.
    """
    torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = load_version(folder, device)
    golden = check_golden(loaded, folder)
    runner = TorchRunner(loaded)
    if not loaded.manifest.batchable:
        return runner, 1
    arrays = [_array(x) for x in golden]
    if not max_batch:
        return runner, best_batch(lambda rows: runner.run_arrays(repeated(arrays, rows)), arrays)
    for rows in sorted({1, 2, max_batch}):
        runner.run_arrays(repeated(arrays, rows))
    return runner, max_batch


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
