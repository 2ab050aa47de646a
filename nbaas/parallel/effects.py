"""Effects happen once: what a rank above 0 writes lands in its scratch directory, read back from there.

Rank 0 is not touched.  A file that a rank above 0 has not written itself is read where it is.
"""

from __future__ import annotations

import builtins
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WRITING = frozenset("wax+")
_DEVICES = ("/dev/", "/proc/", "/sys/")


class ScratchFiles:
    """Redirects writes of this process below `scratch`; `install` returns what undoes it."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.written: set[str] = set()  # absolute paths that live in scratch
        self.removed: set[str] = set()

    def place(self, path: Any) -> str:
        absolute = os.path.abspath(os.fspath(path))
        if isinstance(absolute, bytes):
            absolute = os.fsdecode(absolute)
        return absolute

    def inside(self, absolute: str) -> Path:
        return self.scratch / absolute.lstrip("/")

    def to_write(self, path: Any) -> Path:
        absolute = self.place(path)
        target = self.inside(absolute)
        target.parent.mkdir(parents=True, exist_ok=True)
        if absolute not in self.written and os.path.isfile(absolute):  # noqa: PTH113 - patched below
            shutil.copyfile(absolute, target)
        self.written.add(absolute)
        self.removed.discard(absolute)
        return target

    def to_read(self, path: Any) -> Any:
        absolute = self.place(path)
        return self.inside(absolute) if absolute in self.written else path

    def install(self) -> Callable[[], None]:
        """Replace the openers and movers of this process."""
        originals = (builtins.open, io.open, os.replace, os.rename, os.remove, os.unlink, os.path.exists,
                     os.path.isfile, os.mkdir)  # fmt: skip
        real_open, _, _, _, real_remove, _, real_exists, real_isfile, real_mkdir = originals

        def open_(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if isinstance(file, int) or not _redirectable(file, self.scratch):
                return real_open(file, mode, *args, **kwargs)
            path = self.to_write(file) if _WRITING & set(mode) else self.to_read(file)
            return real_open(path, mode, *args, **kwargs)

        def move(source: Any, target: Any, **_: Any) -> None:
            absolute = self.place(source)
            if absolute in self.written:
                shutil.copyfile(self.inside(absolute), self.to_write(target))
                self.written.discard(absolute)
                self.removed.add(absolute)

        def remove(path: Any, *args: Any, **kwargs: Any) -> None:
            absolute = self.place(path)
            if not _redirectable(path, self.scratch):
                real_remove(path, *args, **kwargs)
            self.written.discard(absolute)
            self.removed.add(absolute)

        def exists(path: Any) -> bool:
            if isinstance(path, int):
                return real_exists(path)
            absolute = self.place(path)
            return absolute in self.written or (absolute not in self.removed and real_exists(path))

        def isfile(path: Any) -> bool:
            if isinstance(path, int):
                return real_isfile(path)
            absolute = self.place(path)
            return absolute in self.written or (absolute not in self.removed and real_isfile(path))

        def mkdir(path: Any, *args: Any, **kwargs: Any) -> None:
            try:
                real_mkdir(path, *args, **kwargs)
            except FileExistsError:  # rank 0 was first
                if not os.path.isdir(path):  # noqa: PTH112
                    raise

        builtins.open = open_  # type: ignore[assignment]
        io.open = open_  # type: ignore[assignment]
        os.replace = os.rename = move  # type: ignore[assignment]
        os.remove = os.unlink = remove  # type: ignore[assignment]
        os.path.exists, os.path.isfile = exists, isfile  # type: ignore[assignment]
        os.mkdir = mkdir  # type: ignore[assignment]

        def undo() -> None:
            (builtins.open, io.open, os.replace, os.rename, os.remove, os.unlink, os.path.exists,
             os.path.isfile, os.mkdir) = originals  # type: ignore[misc,assignment]  # fmt: skip

        return undo


def _redirectable(path: Any, scratch: Path) -> bool:
    text = os.path.abspath(os.fsdecode(os.fspath(path)))
    return not text.startswith(_DEVICES) and not text.startswith(str(scratch))


def route_torch_files() -> Callable[[], None]:
    """Make torch.save and torch.load open paths through Python, so that scratch files are found."""
    import torch

    save, load = torch.save, torch.load

    def save_(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(f, (str, os.PathLike)):
            with open(f, "wb") as file:  # noqa: PTH123 - the patched open
                save(obj, file, *args, **kwargs)
            return
        save(obj, f, *args, **kwargs)

    def load_(f: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(f, (str, os.PathLike)):
            with open(f, "rb") as file:  # noqa: PTH123
                return load(file, *args, **kwargs)
        return load(f, *args, **kwargs)

    torch.save, torch.load = save_, load_

    def undo() -> None:
        torch.save, torch.load = save, load

    return undo
