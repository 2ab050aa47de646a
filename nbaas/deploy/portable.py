"""`python -m nbaas.deploy.portable FOLDER KIND OUT`: a version as one file that needs no nbaas.

Kinds: torchscript, torch-export, onnx.  Prints one JSON line: the largest difference to the golden
output and to the module on other batches, or why there is no such file.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nbaas.deploy.load import rebuilt
from nbaas.deploy.manifest import GOLDEN, Signature, read_manifest, verify_files
from nbaas.deploy.onnx_export import Positional, compared, dynamic_shapes, repeat, write_onnx
from nbaas.deploy.onnx_runner import session
from nbaas.errors import DeployError

FILES = {"torchscript": "model.pt", "torch-export": "model.pt2", "onnx": "model.onnx"}
BATCHES = (1, 3, 8)  # rows

Run = Callable[[list[Any]], list[Any]]


class Single(torch.nn.Module):
    """A model of one output that returns its tensor, not a tuple of one."""

    def __init__(self, model: Positional) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        (output,) = self.model(*inputs)
        return output  # type: ignore[no-any-return]


def main(argv: list[str]) -> None:
    folder, kind, target = Path(argv[1]), argv[2], Path(argv[3])
    try:
        told: dict[str, Any] = {"difference": written(folder, kind, target)}
    except Exception as failed:  # noqa: BLE001 - an exporter has many ways to refuse
        reason = str(failed).strip().partition("\n")[0]
        told = {"error": f"{type(failed).__name__}: {reason}"[:500]}
        target.unlink(missing_ok=True)
    sys.stdout.write(json.dumps(told) + "\n")


def written(folder: Path, kind: str, target: Path) -> float:
    """Write the file; return the largest difference of its answers to those of the version."""
    from safetensors.torch import load_file

    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    signature = manifest.signature
    torch.set_num_threads(1)
    model = Positional(rebuilt(folder, "cpu"), signature).eval().requires_grad_(False)  # noqa: FBT003
    golden = load_file(folder / GOLDEN)
    inputs = [golden[f"input:{spec.name}"] for spec in signature.inputs]
    sample = [repeat(x, 2) if manifest.batchable else x for x in inputs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = _WRITERS[kind](model, sample, target, signature, manifest.batchable)
    batches = [inputs]
    if manifest.batchable:
        batches += [[repeat(x, rows) for x in inputs] for rows in BATCHES]
    worst = max(compared(model, run, batch) for batch in batches)
    return max(worst, _golden_difference(run, inputs, golden, signature))


def _golden_difference(
    run: Run, inputs: list[Any], golden: dict[str, Any], signature: Signature
) -> float:
    outputs = run([x.numpy() for x in inputs])
    pairs = [(golden[f"output:{s.name}"].numpy(), o)
             for s, o in zip(signature.outputs, outputs, strict=True)]  # fmt: skip
    return max(float(abs(a.astype("f8") - b.astype("f8")).max()) if a.size else 0.0
               for a, b in pairs)  # fmt: skip


def _shaped(model: Positional, signature: Signature) -> Any:
    return Single(model).eval() if len(signature.outputs) == 1 else model


def _torchscript(
    model: Positional,
    sample: list[Any],
    target: Path,
    signature: Signature,
    batchable: bool,  # noqa: ARG001, FBT001
) -> Run:
    with torch.no_grad():
        traced = torch.jit.trace(_shaped(model, signature), tuple(sample), check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(traced, str(target))
    return _by_torch(torch.jit.load(str(target)))  # type: ignore[no-untyped-call]


def _torch_export(
    model: Positional,
    sample: list[Any],
    target: Path,
    signature: Signature,
    batchable: bool,  # noqa: FBT001
) -> Run:
    shapes = (dynamic_shapes(signature),) if batchable else None
    program = torch.export.export(
        _shaped(model, signature), tuple(sample), dynamic_shapes=shapes, strict=False
    )
    torch.export.save(program, str(target))
    return _by_torch(torch.export.load(str(target)).module())


def _onnx(
    model: Positional,
    sample: list[Any],
    target: Path,
    signature: Signature,
    batchable: bool,  # noqa: ARG001, FBT001
) -> Run:
    if any(spec.datatype == "BF16" for spec in (*signature.inputs, *signature.outputs)):
        raise DeployError("BF16 has no form in numpy")
    write_onnx(model, sample, target, signature)
    return session(target, threads=1)


_WRITERS: dict[str, Callable[[Positional, list[Any], Path, Signature, bool], Run]] = {
    "torchscript": _torchscript,
    "torch-export": _torch_export,
    "onnx": _onnx,
}


def _by_torch(made: Any) -> Run:
    def run(arrays: list[Any]) -> list[Any]:
        with torch.no_grad():
            found = made(*map(torch.from_numpy, arrays))
        outputs = found if isinstance(found, tuple | list) else [found]
        return [output.numpy() for output in outputs]

    return run


if __name__ == "__main__":
    main(sys.argv)
