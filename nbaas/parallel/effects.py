"""Effects happen once: what a rank above 0 writes lands in its scratch directory.

Rank 0 is not touched.  A rank above 0 reads back what it wrote; a file that it has not written itself
is read where it is.
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
_REPLACED = (
    (builtins, "open"), (io, "open"), (os, "replace"), (os, "rename"), (os, "remove"), (os, "unlink"),
    (os, "mkdir"), (os, "chmod"), (os, "stat"), (os.path, "exists"), (os.path, "isfile"),
)  # fmt: skip


class ScratchFiles:
    """Stands in for the openers and movers of this process; relative paths are of the real place."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.written: set[str] = set()  # absolute paths that live in scratch
        self.removed: set[str] = set()
        self.real_open = builtins.open
        self.real_exists = os.path.exists
        self.real_isfile = os.path.isfile
        self.real_remove = os.remove
        self.real_mkdir = os.mkdir
        self.real_chmod = os.chmod
        self.real_stat = os.stat

    def install(self) -> Callable[[], None]:
        """Replace the functions; return what puts the originals back."""
        originals = [getattr(home, name) for home, name in _REPLACED]
        stand_ins = (self.open, self.open, self.move, self.move, self.remove, self.remove,
                     self.mkdir, self.chmod, self.stat, self.exists, self.isfile)  # fmt: skip
        for (home, name), stand_in in zip(_REPLACED, stand_ins, strict=True):
            setattr(home, name, stand_in)

        def undo() -> None:
            for (home, name), original in zip(_REPLACED, originals, strict=True):
                setattr(home, name, original)

        return undo

    # ---- where a path lives ----------------------------------------------------------------------

    def inside(self, absolute: str) -> Path:
        return self.scratch / absolute.lstrip("/")

    def to_write(self, absolute: str) -> Path:
        target = self.inside(absolute)
        os.makedirs(target.parent, exist_ok=True)  # noqa: PTH103 - Path.mkdir comes back here
        if absolute not in self.written and self.real_isfile(absolute):
            with self.real_open(absolute, "rb") as old, self.real_open(target, "wb") as new:
                shutil.copyfileobj(old, new)
        self.written.add(absolute)
        self.removed.discard(absolute)
        return target

    def redirects(self, absolute: str) -> bool:
        return not absolute.startswith((*_DEVICES, str(self.scratch)))

    # ---- the stand-ins ---------------------------------------------------------------------------

    def open(self, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if isinstance(file, int) or not self.redirects(_absolute(file)):
            return self.real_open(file, mode, *args, **kwargs)
        absolute = _absolute(file)
        if _WRITING & set(mode):
            return self.real_open(self.to_write(absolute), mode, *args, **kwargs)
        place = self.inside(absolute) if absolute in self.written else file
        return self.real_open(place, mode, *args, **kwargs)

    def move(self, source: Any, target: Any, **_: Any) -> None:
        absolute = _absolute(source)
        mine = absolute in self.written
        # A temporary file made beneath Python's open is this rank's own; rank 0 has moved its own.
        if mine or self.real_isfile(absolute):
            found = self.inside(absolute) if mine else absolute
            with self.real_open(found, "rb") as old, self.open(target, "wb") as new:
                shutil.copyfileobj(old, new)
        self.written.discard(absolute)
        self.removed.add(absolute)

    def remove(self, path: Any, *args: Any, **kwargs: Any) -> None:
        absolute = _absolute(path)
        if not self.redirects(absolute):
            self.real_remove(path, *args, **kwargs)
        self.written.discard(absolute)
        self.removed.add(absolute)

    def chmod(self, path: Any, mode: int, **kwargs: Any) -> None:
        absolute = "" if isinstance(path, int) else _absolute(path)
        self.real_chmod(self.inside(absolute) if absolute in self.written else path, mode, **kwargs)

    def stat(self, path: Any, **kwargs: Any) -> os.stat_result:
        absolute = "" if isinstance(path, int) or not self.written else _absolute(path)
        return self.real_stat(self.inside(absolute) if absolute in self.written else path, **kwargs)

    def exists(self, path: Any) -> bool:
        return self._found(path, self.real_exists)

    def isfile(self, path: Any) -> bool:
        return self._found(path, self.real_isfile)

    def _found(self, path: Any, really: Callable[[Any], bool]) -> bool:
        if isinstance(path, int):
            return really(path)
        absolute = _absolute(path)
        return absolute in self.written or (absolute not in self.removed and really(path))

    def mkdir(self, path: Any, *args: Any, **kwargs: Any) -> None:
        try:
            self.real_mkdir(path, *args, **kwargs)
        except FileExistsError:  # rank 0 was first
            if not os.path.isdir(path):  # noqa: PTH112 - a path of the user's, perhaps bytes
                raise


def _absolute(path: Any) -> str:
    return os.path.abspath(os.fsdecode(os.fspath(path)))  # noqa: PTH100 - links stay as named


def route_torch_files() -> Callable[[], None]:
    """Make torch.save and torch.load open paths through Python, so that scratch files are found."""
    import torch

    save, load = torch.save, torch.load

    def save_(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(f, (str, os.PathLike)):
            with open(f, "wb") as file:  # noqa: PTH123 - the stand-in
                save(obj, file, *args, **kwargs)
            return
        save(obj, f, *args, **kwargs)

    def load_(f: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(f, (str, os.PathLike)):
            with open(f, "rb") as file:  # noqa: PTH123 - the stand-in
                return load(file, *args, **kwargs)
        return load(f, *args, **kwargs)

    torch.save, torch.load = save_, load_

    def undo() -> None:
        torch.save, torch.load = save, load

    return undo


def hide_process_group() -> Callable[[], None]:
    """Make torch.distributed look unused: a library that finds a world would average a second time.

    torchmetrics, Lightning, accelerate and ignite all ask; the engine keeps the group itself.
    """
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return lambda: None
    member = distributed.distributed_c10d.GroupMember
    world = member.WORLD
    member.WORLD = None

    def undo() -> None:
        member.WORLD = world

    return undo
