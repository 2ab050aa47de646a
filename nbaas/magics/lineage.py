"""Which job a module of the notebook was trained by, and what a model card tells of that job.

Rule: a module is remembered weakly, with a count of the changes of its parameters, so that training
it further by hand shows.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nbaas.bundle.manifest import Manifest, read_manifest
from nbaas.config import Settings
from nbaas.errors import NbaasError
from nbaas.jobs.job import Job, JobStatus
from nbaas.jobs.store import find_job
from nbaas.journal import JournalReader
from nbaas.placement import describe
from nbaas.records import Metric, State
from nbaas.widgets.curves import Curves
from nbaas.worker.metrics import metric_of

TRAINING_CODE = ("cell.py", "definitions.py")
DATA_KINDS = ("Loader", "Dataset", "DataFrame", "Series", "Subset")
ARRAY_KINDS = ("Tensor", "ndarray", "memmap")
LEAST_ARRAY = 1000  # bytes; a smaller one is a setting, not data
MOST_DATA = 20
MOST_JOURNAL = 1 << 20  # bytes of metrics that are read; of more, the last ones
SERIES_LEFT_OUT = ("batch", "rows")

Parameters = weakref.WeakKeyDictionary[Any, list[tuple[int, int, int]]]

_trained: weakref.WeakKeyDictionary[Any, tuple[str, int]] = weakref.WeakKeyDictionary()


def parameters_in(namespace: Mapping[str, Any]) -> Parameters:
    """Return where the parameters of the notebook's modules are now: each module with a mark."""
    modules = (module for value in list(namespace.values()) for module in _modules(value))
    return weakref.WeakKeyDictionary({module: _mark(module) for module in modules})


def note_trained(
    job: Job, names: Iterable[str], namespace: Mapping[str, Any], before: Parameters
) -> None:
    """Remember that `job` made what the modules behind `names` are now, of `before` it.

    A module whose parameters the job left alone keeps the job that trained it.
    """
    modules = [module for name in names for module in _modules(namespace.get(name))]
    fresh = any(module not in before for module in modules) and _trains(job.status())
    for module in modules:
        if before[module] != _mark(module) if module in before else fresh:
            _trained[module] = (job.id, _changes(module))


def _trains(status: JobStatus) -> bool:
    """Tell whether a job made what its new modules are: one that failed before a step did not."""
    stepped = any(rank.progress.step for rank in status.ranks)
    return stepped or status.state is State.SUCCEEDED


def _mark(module: Any) -> list[tuple[int, int, int]]:
    """Return what differs once a parameter was written to, or got other memory."""
    return [(id(p), p._version, p.data_ptr()) for p in module.parameters()]  # noqa: SLF001 - autograd's own count


def job_facts(settings: Settings, model: Any) -> dict[str, Any]:
    """Return {'job': what is known of the job that trained `model`}; {} where none did."""
    for module in _parts(model):
        found = _trained.get(module)
        if found is None:
            continue
        job_id, changes = found
        # The job may have been removed, or its files damaged: the version is made all the same.
        with contextlib.suppress(NbaasError, OSError):
            told = described(find_job(settings, job_id))
            return {"job": told | {"changed": _changes(module) != changes}}
    return {}


def _modules(value: Any) -> Iterator[Any]:
    """Yield the modules that a value is or holds directly: a trainer's `model`, a list of members."""
    if "torch" not in sys.modules:
        return
    import torch

    held = list(value) if isinstance(value, list | tuple) else [value]
    held += [v for v in getattr(value, "__dict__", {}).values() if isinstance(v, torch.nn.Module)]
    yield from (item for item in held if isinstance(item, torch.nn.Module))


def _parts(model: Any) -> Iterator[Any]:
    """Yield the modules to look for: the model, what wrappers hide, the models a function calls."""
    import torch

    from nbaas.deploy.export import bare_module
    from nbaas.deploy.pipeline import modules_in

    if isinstance(model, torch.nn.Module):
        yield model
        bare = bare_module(model)
        yield from bare.modules()
    elif callable(model) and not isinstance(model, type):
        for part in modules_in(model):
            yield from part.modules()


def _changes(module: Any) -> int:
    return sum(parameter._version for parameter in module.parameters())  # noqa: SLF001 - autograd's own count


def described(job: Job) -> dict[str, Any]:
    """Return what a card tells of a job, as JSON."""
    status, spec = job.status(), job.spec
    manifest = _bundle_of(job)
    progress = [rank.progress for rank in status.ranks]
    begun = status.started or spec.created
    seconds = max(0.0, status.since - begun)
    return {
        "id": spec.id,
        "name": spec.name,
        "state": status.state.value,
        "engine": spec.engine,
        "where": describe(spec.slots),
        "seed": spec.seed,
        "started": begun,
        "seconds": seconds,
        "steps": max((p.step for p in progress), default=0),
        "epochs": max((p.epoch for p in progress), default=0),
        "metrics": _metrics(job),
        "data": list(_data(manifest)) if manifest else [],
        "code": _digest(manifest) if manifest else "",
        "self_check": _facts(job.paths.facts).get("self_check") or "",
        "resources": _resources(job, seconds),
    }


def _bundle_of(job: Job) -> Manifest | None:
    with contextlib.suppress(NbaasError, OSError):
        return read_manifest(job.paths.bundle)
    return None


def _data(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Yield the data that the cell read, the largest first."""
    known = [
        item for item in manifest.names
        if item.kind.endswith(DATA_KINDS)
        or (item.kind in ARRAY_KINDS and item.size >= LEAST_ARRAY)
    ]  # fmt: skip
    for item in sorted(known, key=lambda item: -item.size)[:MOST_DATA]:
        yield {"name": item.name, "kind": item.kind, "size": item.size}


def _digest(manifest: Manifest) -> str:
    """Return the SHA-256 (hex) of the cell and of the definitions that went with it."""
    entries = [(n, manifest.files[n].sha256) for n in TRAINING_CODE if n in manifest.files]
    return hashlib.sha256("".join(f"{d}  {n}\n" for n, d in entries).encode()).hexdigest()


def _facts(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found


def _rows(job: Job, rank: int) -> list[Metric]:
    """Return the rows of a rank's journal, of a long one the last."""
    path = job.paths.metrics(rank)
    try:
        start = max(0, path.stat().st_size - MOST_JOURNAL)
    except OSError:
        return []
    reader, rows = JournalReader(path, start), list[Metric]()
    while records := reader.read():
        rows += [row for row in map(metric_of, records) if row is not None]
    return rows


def _metrics(job: Job) -> dict[str, dict[str, float]]:
    """Return last and best value of each curve of rank 0, whose values are the global ones."""
    curves = Curves()
    for row in _rows(job, 0):
        if row.kind == "train":
            curves.append(row.step, row.values)
    return {
        curve.name: {"last": _finite(curve.last), "best": _finite(curve.best)}
        for curve in curves
        if curve.name not in SERIES_LEFT_OUT
    }


def _finite(value: float) -> Any:
    """Return a number for JSON, which has no NaN."""
    return value if abs(value) < float("inf") else str(value)


def _resources(job: Job, seconds: float) -> dict[str, Any]:
    ranks = job.spec.world_size
    cpu, memory, gpu = 0.0, 0.0, 0.0
    for rank in range(ranks):
        last = 0.0
        for row in _rows(job, rank):
            if row.kind != "sys":
                continue
            cpu += row.values.get("cpu", 0.0) / 100 * (row.time - last if last else 1.0)
            memory = max(memory, row.values.get("rss", 0.0))
            gpu = max(gpu, row.values.get("gpu_memory", 0.0))
            last = row.time
    return {
        "ranks": ranks,
        "rank_seconds": seconds * ranks,
        "cpu_seconds": cpu,
        "peak_memory": memory,
        "peak_gpu_memory": gpu,
    }
