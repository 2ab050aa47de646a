"""`python -m nbaas.deploy.onnx_export FOLDER TOLD`: write model.onnx beside a version's weights.

Prints one JSON line: the largest difference to torch and the time of one row and of a batch by each,
or why there is no ONNX model.  The answers must agree on the golden rows and on batches made of them.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nbaas.deploy.calling import call, outputs_in_order
from nbaas.deploy.load import rebuilt
from nbaas.deploy.manifest import GOLDEN, ONNX, Signature, signature_from
from nbaas.deploy.onnx_runner import session
from nbaas.errors import DeployError

TOLERANCE = 1e-5  # relative to the largest output, at least absolute
BATCH = 16  # rows
RUNS = 10


class Positional(torch.nn.Module):
    """A model called by position that returns a flat tuple, whatever its own way is."""

    def __init__(self, model: Any, signature: Signature) -> None:
        super().__init__()
        self.model = model
        self.signature = signature

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        result = call(self.model, list(inputs), self.signature.inputs, self.signature.call)
        return tuple(outputs_in_order(result, self.signature))


def main(argv: list[str]) -> None:
    folder, told = Path(argv[1]), json.loads(argv[2])
    try:
        notes = exported(folder, signature_from(told["signature"]), batchable=told["batchable"])
    except Exception as failed:  # noqa: BLE001 - an exporter has many ways to refuse
        reason = str(failed).strip().partition("\n")[0]
        notes = {"error": f"{type(failed).__name__}: {reason}"[:500]}
        (folder / ONNX).unlink(missing_ok=True)
    sys.stdout.write(json.dumps(notes) + "\n")


def exported(folder: Path, signature: Signature, *, batchable: bool) -> dict[str, Any]:
    """Write model.onnx; return how far it is from torch and how long each takes."""
    from safetensors.torch import load_file

    if any(spec.datatype == "BF16" for spec in (*signature.inputs, *signature.outputs)):
        raise DeployError("BF16 has no form in numpy")
    torch.set_num_threads(1)
    model = Positional(rebuilt(folder, "cpu"), signature).eval()
    golden = load_file(folder / GOLDEN)
    inputs = [golden[f"input:{spec.name}"] for spec in signature.inputs]
    write_onnx(model, [repeat(x, 2) if batchable else x for x in inputs], folder / ONNX, signature)
    run = session(folder / ONNX, threads=1)
    sizes = (1, 3, BATCH) if batchable else (0,)
    batches = [[repeat(x, size) if size else x for x in inputs] for size in sizes]
    notes: dict[str, Any] = {"difference": max(compared(model, run, batch) for batch in batches)}
    for name, batch in (("single", batches[0]), ("batch", batches[-1])):
        arrays = [x.numpy() for x in batch]
        notes[name] = {
            "torch": fastest(lambda batch=batch: _by_torch(model, batch)),  # type: ignore[misc]
            "onnx": fastest(lambda arrays=arrays: run(arrays)),  # type: ignore[misc]
        }
    return notes


def write_onnx(model: Any, inputs: list[Any], path: Path, signature: Signature) -> None:
    """Export with every size that the signature leaves open as a dynamic one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            tuple(inputs),
            dynamo=True,
            verbose=False,
            dynamic_shapes=(dynamic_shapes(signature),),  # forward takes *inputs: one argument
            input_names=[s.name for s in signature.inputs],
            output_names=[s.name for s in signature.outputs],
        )
    assert program is not None  # noqa: S101 - by dynamo
    program.save(str(path), external_data=False)


def dynamic_shapes(signature: Signature) -> tuple[dict[int, Any], ...]:
    """Return the sizes that each input leaves open, the first one the same for all."""
    rows = torch.export.Dim("rows")
    return tuple(
        {i: rows if i == 0 else torch.export.Dim.AUTO for i, n in enumerate(s.shape) if n == -1}
        for s in signature.inputs
    )


def repeat(rows: Any, size: int) -> Any:
    """Return (size, ...) made of the golden rows in turn, each a little different."""
    index = torch.arange(size) % len(rows)
    made = rows[index]
    if made.dtype.is_floating_point:
        scale = 1 + 0.01 * torch.arange(size, dtype=made.dtype)
        made = made * scale.reshape(-1, *[1] * (made.dim() - 1))
    return made.contiguous()


def _by_torch(model: Any, batch: list[Any]) -> list[Any]:
    with torch.inference_mode():
        return [output.numpy() for output in model(*batch)]


def compared(model: Any, run: Callable[[list[Any]], list[Any]], batch: list[Any]) -> float:
    """Return the largest difference on a batch; raises DeployError where it is too large."""
    worst = 0.0
    outputs = run([x.numpy() for x in batch])
    for ours, theirs in zip(_by_torch(model, batch), outputs, strict=True):
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            raise DeployError(f"{theirs.dtype} {theirs.shape}, not {ours.dtype} {ours.shape}")
        if not ours.size:
            continue
        far = float(np.abs(ours.astype("f8") - theirs.astype("f8")).max())
        if far > TOLERANCE * max(1.0, float(np.abs(ours).max())):
            raise DeployError(f"its answer differs from torch's by {far:.3g}")
        worst = max(worst, far)
    return worst


def fastest(run: Callable[[], object]) -> float:
    """Return the seconds of the fastest of RUNS runs, after one that warms up."""
    run()
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    main(sys.argv)
