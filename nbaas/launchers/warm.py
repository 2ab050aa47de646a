"""What a zygote does ahead of its ranks, and what it must leave to them."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
from pathlib import Path

# What a rank imports before its first step is done, some of it lazily inside torch.
MODULES = (
    "numpy",
    "torch",
    "torch._dynamo",
    "torch.distributed",
    "torch.utils.data",
    "torch.utils.data._utils.worker",
    "cloudpickle",
    "nbaas.bundle",
    "nbaas.parallel",
    "nbaas.worker.rank",
    "nbaas.worker.course",
)
ENGINE_MODULES = {
    "horovod": ("horovod.torch", "nbaas.engines.horovod"),
    "ddp": ("nbaas.engines.ddp",),
}
SETTERS = ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads64_",
           "openblas_set_num_threads")  # fmt: skip


def import_what_ranks_need(engine: str) -> None:
    """Import; raises RuntimeError where that has started a thread or touched CUDA."""
    gc.disable()
    for name in MODULES:
        importlib.import_module(name)
    for name in (*ENGINE_MODULES["ddp"], *ENGINE_MODULES.get(engine, ())):
        # Ranks of a job with another engine import their own.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.enable()
    import torch

    threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208 - names are enough
    if threads != 1:
        raise RuntimeError(f"{threads} threads after the imports: ranks forked now may hang")
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        raise RuntimeError("the imports initialised CUDA: ranks forked now could not use it")


def set_blas_threads(threads: int) -> None:
    """Give numpy's own BLAS its share of the cores: it was loaded with one thread."""
    if threads == 1:
        return
    for library in _openblas():
        loaded = ctypes.CDLL(library)
        for setter in SETTERS:
            with contextlib.suppress(AttributeError):
                getattr(loaded, setter)(threads)
                break


def _openblas() -> set[str]:
    maps = Path("/proc/self/maps").read_text().splitlines()
    paths = {line.split(maxsplit=5)[5] for line in maps if len(line.split(maxsplit=5)) > 5}  # noqa: PLR2004 - the sixth field
    return {path for path in paths if "openblas" in Path(path).name}
