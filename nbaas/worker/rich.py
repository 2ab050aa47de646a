"""Rich outputs of a rank: rank 0 keeps a journal of them; IPython's functions lead there too."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from nbaas.bundle import JournalSink, set_sink
from nbaas.bundle.displays import clear_output, display
from nbaas.records import JobPaths

IPYTHON = "IPython.core.display_functions"


def install(paths: JobPaths, rank: int) -> None:
    """Let rank 0 show to the notebook; what other ranks show is dropped."""
    set_sink(JournalSink(paths.displays) if rank == 0 else None)
    sys.meta_path.insert(0, _IPythonDisplay())


def repeat_displays(paths: JobPaths, start: int) -> None:
    """Leave out what the journal holds beyond record `start`: the same is shown again now."""
    try:
        held = paths.displays.read_bytes().count(b"\n")
    except OSError:
        held = 0
    made = len(list(paths.displays.with_suffix("").glob("*")))
    set_sink(JournalSink(paths.displays, leave_out=max(0, held - start), made=made))


def publish_display_data(data: dict[str, Any], *_: Any, **__: Any) -> None:
    """Stand in for IPython's function: `data` is a MIME bundle already."""
    display(data, raw=True)


class _IPythonDisplay(importlib.abc.MetaPathFinder):
    """Puts our functions into IPython's module when it is imported: a rank has no shell."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != IPYTHON:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Patched(spec.loader)
        return spec


class _Patched(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        vars(module).update(
            display=display,
            update_display=display,
            clear_output=clear_output,
            publish_display_data=publish_display_data,
        )
