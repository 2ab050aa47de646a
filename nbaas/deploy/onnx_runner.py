"""A version run by ONNX Runtime: no torch and none of the user's code in the process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nbaas.deploy.calibration import warmed
from nbaas.deploy.manifest import GOLDEN, ONNX, VersionManifest, read_manifest, verify_files
from nbaas.errors import DeployError

RELATIVE, ABSOLUTE = 1e-4, 1e-5  # how far an output may lie from the golden one


class OnnxRunner:
    """Runs arrays through an ONNX Runtime session."""

    def __init__(self, run: Callable[[list[Any]], list[Any]], manifest: VersionManifest) -> None:
        self.run_arrays = run
        self.manifest = manifest


def onnx_runner(folder: Path, *, threads: int, max_batch: int) -> tuple[OnnxRunner, int]:
    """Return a warm runner that has given the golden answer, and its batch size.

    Raises: BundleError: a file is damaged.  DeployError: the answer differs from the golden one.
    """
    from safetensors.numpy import load_file

    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    runner = OnnxRunner(session(folder / ONNX, threads=threads), manifest)
    golden = load_file(folder / GOLDEN)
    inputs = [golden[f"input:{spec.name}"] for spec in manifest.signature.inputs]
    outputs = runner.run_arrays(inputs)
    for spec, output in zip(manifest.signature.outputs, outputs, strict=True):
        expected = golden[f"output:{spec.name}"]
        if manifest.deterministic and not _close(output, expected):
            raise DeployError(
                f"output {spec.name!r} by ONNX Runtime differs from the notebook's",
                hint="--engine torch",
            )
    return runner, warmed(runner, inputs, max_batch)


def _close(output: Any, expected: Any) -> bool:
    same = output.shape == expected.shape and output.dtype == expected.dtype
    return same and bool(
        np.allclose(output, expected, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
    )


def session(path: Path, *, threads: int) -> Callable[[list[Any]], list[Any]]:
    """Return a function from input arrays to output arrays, in the model's order."""
    import onnxruntime  # type: ignore[import-untyped,import-not-found,unused-ignore]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    made = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [given.name for given in made.get_inputs()]

    def run(arrays: list[Any]) -> list[Any]:
        outputs: list[Any] = made.run(None, dict(zip(names, arrays, strict=True)))
        return outputs

    return run
