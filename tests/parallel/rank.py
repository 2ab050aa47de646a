"""One run of a case in a forked process: plainly, or as one rank under the semantic layer."""

from __future__ import annotations

import faulthandler
import json
import linecache
import os
import pickle
import random
import signal
import sys
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SEED = 1234
MOST_ITEMS = 2000  # of one container
IGNORED = frozenset(
    ["__name__", "__file__", "__builtins__", "__doc__", "__annotations__", "device"]
)


def main(request: dict[str, Any]) -> int:
    """Return the exit code; `values-<rank>.pkl` or `failure-<rank>.json` are in the folder."""
    folder, rank = Path(request["folder"]), request["rank"]
    redirect(folder, rank)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = ["ipykernel_launcher.py"]
    try:
        outcome = run_plainly(request) if request["slot"] is None else run_as_rank(request)
    except BaseException as error:  # noqa: BLE001 - the user's, told by the harness
        write(folder / f"failure-{rank}.json", json.dumps(failure_of(error)).encode())
        traceback.print_exc()
        return 1
    write(folder / f"values-{rank}.pkl", pickle.dumps(outcome))
    return 0


def write(path: Path, data: bytes) -> None:
    """Write a file below the layer that keeps a rank's files apart, which may still be on."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(data)


def redirect(folder: Path, rank: int) -> None:
    for fd, name in ((1, "out"), (2, "err")):
        file = os.open(folder / f"{name}-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, fd)
        os.close(file)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr


def failure_of(error: BaseException) -> dict[str, Any]:
    from nbaas.errors import EngineError, NbaasError

    lines = traceback.format_exception(error)
    lost = isinstance(error, EngineError)
    return {
        "kind": type(error).__name__,
        "message": str(error),
        "refused": isinstance(error, NbaasError) and not lost,
        "lost": lost,  # another rank left, which will have said why
        "traceback": "".join(lines),
    }


def run_plainly(request: dict[str, Any]) -> dict[str, Any]:
    namespace = fresh_namespace(request)
    for phase in request["phases"]:
        run_phase(request, phase, namespace)
    return {"values": collect(namespace, request), "facts": {}, "steps": 0}


def run_as_rank(request: dict[str, Any]) -> dict[str, Any]:
    from nbaas.engines.base import engine_named
    from nbaas.parallel import activate
    from nbaas.records import Slot

    engine = engine_named(request["engine"]).start(Slot(**request["slot"]))
    namespace = fresh_namespace(request)
    if "setup" in request["phases"]:
        run_phase(request, "setup", namespace)
    observer = Observer()
    session = activate(
        engine, observer, rank_scratch=Path(request["scratch"]), batch=request["batch"]
    )
    run_phase(request, "train", namespace)
    session.materialize(namespace)
    facts = session.facts()
    settled = {} if "after" in request["phases"] else collect(namespace, request)
    if "after" in request["phases"]:
        bring_back(namespace)
    session.close()
    if "after" in request["phases"]:
        run_phase(request, "after", namespace)
        settled = collect(namespace, request)
    engine.shutdown()
    return {
        "values": settled,
        "facts": json.loads(json.dumps(facts, default=str)),
        "steps": observer.steps,
    }


def bring_back(namespace: dict[str, Any]) -> None:
    """Replace what is split over ranks by plain values, as the notebook gets it."""
    from nbaas.parallel import trees
    from nbaas.parallel.sharded import whole

    for name, value in list(namespace.items()):
        if not name.startswith("__"):
            namespace[name] = trees.map_tensors(
                lambda t: whole(t).detach() if whole(t) is not t else t, value
            )


class Observer:
    """Keeps what the layer reports: the number of steps finished and the last values."""

    def __init__(self) -> None:
        self.steps = 0
        self.last: dict[str, float] = {}

    def step(self, step: int, epoch: int, values: dict[str, float]) -> None:
        self.steps, self.last = step, values

    def progress(self, batch: int, batches: int | None, epoch: int) -> None:
        pass


def fresh_namespace(request: dict[str, Any]) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    random.seed(SEED)
    np.random.seed(SEED)  # the global state is what notebooks use
    module = types.ModuleType("__main__")
    module.__file__ = request["path"]
    sys.modules["__main__"] = module
    return module.__dict__


def run_phase(request: dict[str, Any], phase: str, namespace: dict[str, Any]) -> None:
    source, name = request["phases"][phase], f"{Path(request['path']).name}:{phase}"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), namespace)


def collect(namespace: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """Return every number, string and array that the top-level names hold, by path."""
    found: dict[str, Any] = {}
    for name, value in list(namespace.items()):
        if name not in IGNORED and name not in request["ignore"] and not name.startswith("_"):
            found.update(flatten(name, value, 0))
    return found


def flatten(path: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    import torch

    if isinstance(value, torch.Tensor):
        yield path, as_array(value)
    elif isinstance(value, (np.ndarray, np.generic)):
        if value.dtype.kind in "fiubc":
            yield path, np.asarray(value)
    elif isinstance(value, (bool, int, float, str)):
        yield path, value
    elif depth < 6:
        for key, item in children(value):
            yield from flatten(f"{path}{key}", item, depth + 1)


def children(value: Any) -> Iterator[tuple[str, Any]]:
    import torch

    if isinstance(value, torch.nn.Module):
        yield from ((f".{key}", item) for key, item in value.state_dict().items())
    elif isinstance(value, torch.optim.Optimizer):
        yield ".state_dict()", value.state_dict()
    elif isinstance(value, dict):
        yield from ((f"[{key!r}]", item) for key, item in list(value.items())[:MOST_ITEMS])
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{index}]", item) for index, item in enumerate(value[:MOST_ITEMS]))


def as_array(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if tensor.is_sparse:
        tensor = tensor.to_dense()
    if tensor.dtype.itemsize < 4 and tensor.dtype.is_floating_point:
        tensor = tensor.float()
    return np.array(tensor.numpy())
