"""Checkpoints of a job: the cell's values, random numbers and place, as files whole or not there.

`ckpt/<step>/` holds `state/` (all values, in the form of a result), one safetensors file for each model,
and `checkpoint.json`, written last, with the SHA-256 of every other file.
Rules: rank 0 writes; a folder gets its name by a rename once all in it is on disk; a folder that fails
its digests is passed over for the one before.  Values are read back by ranks of the same user's job only.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nbaas.errors import JobError
from nbaas.worker.position import Position

FORMAT = 1
RESUME = "NBAAS_RESUME"  # in the environment of ranks whose job has a checkpoint
MANIFEST = "checkpoint.json"
STATE = "state"
KEPT = 2  # complete checkpoints that stay
NAME = re.compile(r"(\d{8,})(?:-(\d+))?")
CHUNK = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The manifest of a complete checkpoint."""

    step: int
    time: float  # seconds since the epoch
    position: Position
    iterators: tuple[int, ...] = ()  # loops whose iterator is among the values
    marks: tuple[int, ...] = ()  # loops that are walked again up to their place
    remade: tuple[int, ...] = ()  # lines of the cell that make again what could not be kept
    log: int = 0  # bytes of rank 0's log
    shown: int = 0  # rich outputs
    files: dict[str, tuple[int, str]] = field(default_factory=dict)  # size, SHA-256
    root: Path = field(default=Path(), compare=False)

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(size for size, _ in self.files.values())


def checkpoints(folder: Path) -> list[Checkpoint]:
    """Return the complete checkpoints below `folder`, newest first; their files are not read."""
    found = []
    for path in sorted(_folders(folder), key=_order, reverse=True):
        with contextlib.suppress(JobError):
            found.append(read_manifest(path))
    return found


def newest_step(folder: Path) -> int | None:
    """Return the step of the newest complete checkpoint, by its name alone; None without one."""
    return max((_order(path)[0] for path in _folders(folder)), default=None)


def newest_whole(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint whose every file is what was written; None where there is none."""
    for found in checkpoints(folder):
        if not damage(found):
            return found
    return None


def damage(found: Checkpoint) -> str:
    """Return which file of a checkpoint is not what was written, '' where all are."""
    for name, (size, sha256) in found.files.items():
        path = found.root / name
        try:
            if path.stat().st_size != size or _digest(path) != sha256:
                return f"{path} is damaged"
        except OSError as lost:
            return f"{path}: {lost.strerror}"
    return ""


def read_manifest(root: Path) -> Checkpoint:
    """Return the checkpoint in `root`; raises JobError where it is incomplete or of another format."""
    try:
        data = json.loads((root / MANIFEST).read_text())
        if (written := data.pop("format")) != FORMAT:
            raise JobError(
                f"{root} is a checkpoint of format {written}, this nbaas reads {FORMAT}",
                hint="resume it with the nbaas that made it",
            )
        at = data.pop("position")
        position = Position(at["at"], tuple((n, taken) for n, taken in at["loops"]), at["in_loop"])
        files = {name: (int(size), str(digest)) for name, (size, digest) in data["files"].items()}
        tuples = {name: tuple(data[name]) for name in ("iterators", "marks", "remade")}
        return Checkpoint(**{**data, **tuples, "position": position, "files": files, "root": root})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as wrong:
        raise JobError(f"{root} holds no complete checkpoint: {wrong}") from wrong


class Draft:
    """A checkpoint in the making; `complete` gives it its name, anything else leaves nothing."""

    def __init__(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self.root = folder / f".{step}.draft"
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(mode=0o700)
        self.step = step

    def complete(self, **facts: Any) -> Checkpoint:
        """Return the checkpoint, on disk under its name; older ones beyond KEPT are removed."""
        files = {}
        for path in sorted(p for p in self.root.rglob("*") if p.is_file()):
            _sync(path)
            name = str(path.relative_to(self.root))
            files[name] = (path.stat().st_size, _digest(path))
        made = Checkpoint(step=self.step, time=time.time(), files=files, **facts)
        fields: dict[str, Any] = {**asdict(made), "format": FORMAT}
        del fields["root"]
        manifest = self.root / MANIFEST
        manifest.write_text(json.dumps(fields))
        _sync(manifest)
        for path in [p for p in self.root.rglob("*") if p.is_dir()] + [self.root]:
            _sync(path)
        final = self.folder / self._name()
        self.root.rename(final)
        _sync(self.folder)
        self._forget_old()
        return read_manifest(final)

    def discard(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def _name(self) -> str:
        again = [_order(p)[1] for p in _folders(self.folder) if _order(p)[0] == self.step]
        return f"{self.step:08d}" + (f"-{max(again) + 1}" if again else "")

    def _forget_old(self) -> None:
        for path in sorted(_folders(self.folder), key=_order, reverse=True)[KEPT:]:
            gone = path.with_name(f".{path.name}.gone")
            with contextlib.suppress(OSError):
                path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def unfinished(folder: Path) -> list[Path]:
    """Return the folders of checkpoints that are being written or removed, or were when it crashed."""
    return [path for path in folder.glob(".*") if path.suffix in (".draft", ".gone")]


def remove_leftovers(folder: Path) -> int:
    """Remove what a crash left half written or half removed; returns how many folders that were."""
    left = unfinished(folder)
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return len(left)


def save_models(folder: Path, models: Mapping[str, Any]) -> None:
    """Write the weights of each model as NAME.safetensors, for anyone to read."""
    from safetensors.torch import save_file

    for name, model in models.items():
        tensors: dict[str, Any] = {}
        seen: dict[int, str] = {}
        for key, value in model.state_dict().items():
            if not hasattr(value, "untyped_storage"):
                continue
            tensor = value.detach().contiguous()
            if tensor.untyped_storage().data_ptr() in seen:
                tensor = tensor.clone()  # the format keeps no shared memory
            seen[tensor.untyped_storage().data_ptr()] = key
            tensors[key] = tensor
        if tensors:
            save_file(tensors, folder / f"{name}.safetensors")


def _folders(folder: Path) -> Iterator[Path]:
    for path in folder.glob("*") if folder.is_dir() else ():
        if NAME.fullmatch(path.name):
            yield path


def _order(path: Path) -> tuple[int, int]:
    match = NAME.fullmatch(path.name)
    return (int(match[1]), int(match[2] or 0)) if match else (-1, 0)


def _digest(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
