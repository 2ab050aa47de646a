"""A loaded model behind arrays: what the replica calls for each batch."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch

from nbaas.deploy.calibration import warmed
from nbaas.deploy.load import Loaded, check_golden, load_version

SIDE_BY_SIDE = 32  # streams of one replica

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

    def stream_arrays(self, arrays: list[Any]) -> Generator[list[Any]]:
        """Yield the output arrays of each item; closing this closes the model's generator."""
        inputs = [_tensor(a, bf16=b) for a, b in zip(arrays, self._bf16, strict=True)]
        items = self.loaded.stream(inputs)
        try:
            while True:
                # Not around the yield: what runs between two items must not be in this mode.
                with torch.inference_mode():
                    item = next(items, None)
                if item is None:
                    return
                yield [_array(output) for output in item]
        finally:
            items.close()


def _tensor(array: Any, *, bf16: bool) -> Any:
    if bf16:
        return torch.from_numpy(array.view("<i2")).view(torch.bfloat16)
    return torch.from_numpy(array)


def _array(tensor: Any) -> Any:
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view("<u2")
    return tensor.numpy()


def torch_runner(
    folder: Path, *, device: str, threads: int, max_batch: int, index: int = 0
) -> tuple[TorchRunner, int]:
    """Return a warm runner that has given the golden answer, and its batch size.

    `device` 'cuda' is the GPU whose turn it is for replica number `index`.

    Raises: BundleError: a file is damaged.  DeployError: the answer differs from the golden one.
    """
    torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        device = f"cuda:{index % max(1, torch.cuda.device_count())}"
    loaded = load_version(folder, device)
    golden = check_golden(loaded, folder)
    runner = TorchRunner(loaded)
    if loaded.manifest.streams:
        return runner, (max_batch or SIDE_BY_SIDE) if loaded.manifest.interleaves else 1
    return runner, warmed(runner, [_array(x) for x in golden], max_batch)
