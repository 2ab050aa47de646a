"""Modules that a cell uses: whether the file is still what was imported."""

from __future__ import annotations

import importlib.util
import os
import types
from pathlib import Path


def edited_since_import(module: types.ModuleType) -> bool:
    """Tell whether a module's file is newer than what was compiled of it; False where unknown."""
    path, cached = getattr(module, "__file__", None), getattr(module, "__cached__", None)
    if not path or not cached or "site-packages" in path or not os.path.exists(cached):  # noqa: PTH110
        return False
    try:
        header = Path(cached).read_bytes()[:16]
        written = os.stat(path)  # noqa: PTH116
    except OSError:
        return False
    if header[:4] != importlib.util.MAGIC_NUMBER or header[4:8] != bytes(4):
        return False
    compiled = int.from_bytes(header[8:12], "little"), int.from_bytes(header[12:16], "little")
    return compiled != (int(written.st_mtime) & 0xFFFFFFFF, written.st_size & 0xFFFFFFFF)
