"""Whether a version runs by torch or by ONNX Runtime: exported and measured in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from nbaas.deploy.manifest import ONNX, VersionManifest
from nbaas.errors import DeployError, UsageError
from nbaas.records import to_json

ENGINES = ("torch", "onnx", "auto")
NEEDED = ("onnxruntime", "onnx", "onnxscript")
TIMEOUT = 300.0  # seconds; an export takes some on a busy machine
SLACK = 1.05  # a full batch may take so much longer than torch's before torch is kept


def choose_engine(
    directory: Path,
    manifest: VersionManifest,
    wanted: str,
    needed: tuple[str, ...] = NEEDED,
) -> tuple[str, dict[str, Any]]:
    """Return 'torch' or 'onnx' and what was measured; for 'onnx' the model is in the directory.

    Raises: DeployError: onnx was asked for and cannot be had.  UsageError: no engine is called so.
    """
    if wanted not in ENGINES:
        raise UsageError(
            f"{wanted!r} is no engine to serve by", hint="known: " + ", ".join(ENGINES)
        )
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if wanted == "torch" or (wanted == "auto" and missing):
        return "torch", {}
    if missing:
        raise DeployError(
            f"{missing[0]} is not installed",
            hint=f"pip install {' '.join(missing)}; --engine torch works meanwhile",
        )
    if manifest.streams:
        if wanted == "onnx":
            raise DeployError("ONNX Runtime runs no generator", hint="--engine torch")
        return "torch", {}
    notes = _exported(directory, manifest)
    if wanted == "onnx" and "error" in notes:
        raise DeployError(
            f"the model cannot run by ONNX Runtime: {notes['error']}", hint="--engine torch"
        )
    if "error" not in notes and (wanted == "onnx" or is_faster(notes)):
        return "onnx", notes
    (directory / ONNX).unlink(missing_ok=True)
    return "torch", notes


def is_faster(notes: dict[str, Any]) -> bool:
    """Whether ONNX Runtime answers one row sooner, and a batch no later, than torch does."""
    single, batch = notes["single"], notes["batch"]
    return bool(single["onnx"] < single["torch"] and batch["onnx"] <= batch["torch"] * SLACK)


def _exported(directory: Path, manifest: VersionManifest) -> dict[str, Any]:
    """Return what the exporting process found, or {'error': why there is no ONNX model}."""
    told = json.dumps({"signature": to_json(manifest.signature), "batchable": manifest.batchable})
    command = [sys.executable, "-P", "-m", "nbaas.deploy.onnx_export", str(directory), told]
    path = os.pathsep.join(filter(None, [*sys.path[1:], os.environ.get("PYTHONPATH", "")]))
    try:
        done = subprocess.run(
            command,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            # Ctrl-C in the notebook ends the deploy here, not half of the export.
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"the export took over {TIMEOUT:g} s"}
    lines = done.stdout.strip().splitlines()
    try:
        notes: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return {"error": last}
    return notes
