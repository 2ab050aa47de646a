"""State of the process that a cell computes with and no name holds: random generators, settings.

It travels to the ranks, so that a cell after `torch.manual_seed(0)` draws what it would draw in the
kernel; the random generators travel back, so that the next cell goes on from there.
"""

from __future__ import annotations

import random
import sys
import warnings
from typing import Any

AMBIENT = "@ambient"  # the item of a value stream


def ambient() -> dict[str, Any]:
    """Return the state of the random generators and settings of the libraries that are loaded."""
    state: dict[str, Any] = {"random": random.getstate(), "warnings": _library_filters()}
    if "numpy" in sys.modules:
        import numpy as np

        state["numpy"] = np.random.get_state()
        state["numpy_print"] = np.get_printoptions()
    if "torch" in sys.modules:
        state |= _torch_state()
    if "matplotlib" in sys.modules:
        import matplotlib as mpl

        # Reading the backend would choose one.
        names = [name for name in mpl.rcParams if not name.startswith("backend")]
        state["matplotlib"] = {name: mpl.rcParams[name] for name in names}
    return state


def _library_filters() -> list[Any]:
    """Return the warning filters, but for those that name a class of the notebook."""
    return [entry for entry in warnings.filters if entry[2].__module__ != "__main__"]


def _torch_state() -> dict[str, Any]:
    import torch

    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def random_state() -> dict[str, Any]:
    """Return the part that comes back from the ranks."""
    return {k: v for k, v in ambient().items() if k in ("random", "numpy", "torch", "cuda")}


def set_ambient(state: dict[str, Any]) -> None:
    """Make this process's state what `ambient` returned in another."""
    random.setstate(state["random"])
    if "warnings" in state:
        warnings.filters[:] = state["warnings"]  # type: ignore[index]
        warnings._filters_mutated()  # type: ignore[attr-defined]  # noqa: SLF001 - else the old ones are cached
    if "numpy" in state:
        import numpy as np

        np.random.set_state(state["numpy"])
        if "numpy_print" in state:
            np.set_printoptions(**state["numpy_print"])
    if "torch" in state:
        _set_torch(state)
    if "matplotlib" in state:
        import matplotlib as mpl

        mpl.rcParams.update(state["matplotlib"])


def _set_torch(state: dict[str, Any]) -> None:
    import torch

    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    if "dtype" not in state:
        return
    torch.set_default_dtype(state["dtype"])
    torch.set_grad_enabled(state["grad"])
    if torch.are_deterministic_algorithms_enabled() != state["deterministic"]:
        torch.use_deterministic_algorithms(state["deterministic"])  # imports the compiler: seconds
    torch.set_float32_matmul_precision(state["matmul"])
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = state["cudnn"]
