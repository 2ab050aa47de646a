"""What a job needs on another host, piece by piece, each by its SHA-256.

Rules: a piece that the host has is not sent; what arrives is hashed before it has its name.  Standard
library only: the supervisor reads the bundle's manifest as JSON and never opens a bundle.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbaas.errors import BundleError
from nbaas.launchers.frames import CHUNK, encoded
from nbaas.records import JobPaths

KEPT_FOR = 14 * 86400.0  # seconds without use
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Piece:
    """A file of the job: `name` below its folder there; a blob has none but its digest."""

    digest: str
    size: int
    name: str = ""
    touched: int = 0  # mtime in ns that seals a blob: unchanged since, it is not hashed again


def pieces_of(paths: JobPaths) -> dict[str, tuple[Piece, Path]]:
    """Return what a job consists of: name, or digest of a blob -> the piece and its file here."""
    manifest = json.loads((paths.bundle / MANIFEST).read_bytes())
    blobs = paths.root.parent.parent / "blobs"
    found: dict[str, tuple[Piece, Path]] = {}
    for name, entry in manifest["files"].items():
        piece = Piece(entry["sha256"], entry["size"], f"bundle/{name}")
        found[piece.name] = piece, paths.bundle / name
    for digest, (size, touched) in manifest["blobs"].items():
        found[digest] = Piece(digest, size, touched=touched), blobs / digest
    # Last: a bundle with a manifest is whole.
    rest = [paths.bundle / MANIFEST, *sorted(_files(paths.modules))]
    for path in rest:
        name = str(path.relative_to(paths.root))
        found[name] = Piece(_digest(path), path.stat().st_size, name), path
    return found


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listing(pieces: Sequence[Piece]) -> list[dict[str, Any]]:
    return [asdict(piece) for piece in pieces]


def frames_of(piece: Piece, path: Path) -> Iterator[bytes]:
    """Yield the frames that carry one piece; a file that has shrunk ends them early."""
    with path.open("rb") as file:
        sent = 0
        while True:
            data = file.read(CHUNK)
            sent += len(data)
            last = sent >= piece.size or not data
            yield encoded({"verb": "piece", "digest": piece.digest, "last": last}, data)
            if last:
                return


class Depot:
    """The pieces that this host keeps, named by their digests; what a job needs is linked there."""

    def __init__(self, blobs: Path) -> None:
        self._blobs = blobs
        self._open: dict[str, tuple[Path, Any, Any]] = {}  # digest -> temporary file, hash
        blobs.mkdir(parents=True, exist_ok=True, mode=0o700)

    def missing(self, pieces: Sequence[Piece]) -> list[str]:
        """Return the digests that have to be sent, each once."""
        return list(dict.fromkeys(p.digest for p in pieces if not self._has(p)))

    def _has(self, piece: Piece) -> bool:
        path = self._blobs / piece.digest
        try:
            found = path.stat()
        except FileNotFoundError:
            return False
        if found.st_size != piece.size:
            return False
        sealed = piece.touched and found.st_mtime_ns == piece.touched
        if not sealed and _digest(path) != piece.digest:
            return False
        self._seal(path, piece)
        return True

    @staticmethod
    def _seal(path: Path, piece: Piece) -> None:
        """Note the use, and give a blob the time by which ranks know it unchanged."""
        touched = piece.touched or path.stat().st_mtime_ns
        os.utime(path, ns=(time.time_ns(), touched))

    def take(self, digest: str, data: bytes, *, last: bool) -> None:
        """Take a part of a piece; raises BundleError where the whole is not what was announced."""
        if digest not in self._open:
            temporary = self._blobs / f".{digest}.{os.getpid()}"
            self._open[digest] = temporary, temporary.open("wb"), hashlib.sha256()
        temporary, file, seen = self._open[digest]
        file.write(data)
        seen.update(data)
        if not last:
            return
        del self._open[digest]
        with file:
            os.fchmod(file.fileno(), 0o400)
            file.flush()
            os.fsync(file.fileno())
        if seen.hexdigest() != digest:
            temporary.unlink()
            raise BundleError(f"a piece came as {seen.hexdigest()[:12]}, not {digest[:12]}")
        temporary.rename(self._blobs / digest)

    def lay_out(self, pieces: Sequence[Piece], root: Path) -> None:
        """Give a job's folder its files, and blobs the time that seals them."""
        for piece in pieces:
            source = self._blobs / piece.digest
            self._seal(source, piece)
            if not piece.name:
                continue
            target = root / piece.name
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            target.unlink(missing_ok=True)
            shutil.copyfile(source, target)

    def prune(self) -> None:
        """Remove what no job has used for two weeks; leftovers of broken transfers too."""
        now = time.time()
        for path in self._blobs.iterdir():
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            if now - max(found.st_mtime, found.st_atime) > KEPT_FOR:
                path.unlink(missing_ok=True)
