"""Build a bundle in the kernel; open, verify and load it in a rank.

Rules: files are synced and the manifest is written last, so a bundle with a manifest is whole.
Opening verifies and executes nothing; `load` unpickles what the same user's kernel wrote.
"""

from __future__ import annotations

import ast
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from nbaas._version import __version__
from nbaas.bundle import manifest as manifests
from nbaas.bundle.blobs import file_digest, store_regions
from nbaas.bundle.contents import FORMAT, Cell, CellContents, ValueStream
from nbaas.bundle.manifest import FileEntry, Manifest, Places
from nbaas.bundle.memory import ALIGNMENT, LoadedRegions, Region, StoredRegion
from nbaas.bundle.restoring import Classes, ValueUnpickler
from nbaas.config import own_folder
from nbaas.errors import BundleError

# ---- build -------------------------------------------------------------------------------------


def build_bundle(directory: Path, contents: CellContents, blobs: Path) -> Manifest:
    """Return the manifest of the bundle written into `directory`, which is made."""
    own_folder(directory)
    places = write_values(directory, contents.values, blobs)
    files = {
        manifests.CELL: contents.cell.source.encode(),
        manifests.TEXTS: json.dumps([asdict(text) for text in contents.texts]).encode(),
        manifests.DEFINITIONS: contents.definitions.encode(),
    }
    for name, data in files.items():
        manifests.write_file(directory / name, data)
    manifest = Manifest(
        format=FORMAT,
        python=_python_version(),
        torch=_torch_version(),
        nbaas=__version__,
        cell_number=contents.cell.number,
        cell_file=contents.cell.file_name,
        names=contents.names,
        files=_entries(directory),
        blobs=_blob_facts(places, blobs),
        blob_directory=str(blobs),
        sys_path=contents.sys_path,
        notices=contents.notices,
        missing=contents.missing,
        left_out=contents.left_out,
    )
    _sync_directory(directory)
    manifests.write_manifest(directory / manifests.MANIFEST, manifest)
    _sync_directory(directory)
    return manifest


def write_values(directory: Path, values: ValueStream, blobs: Path | None) -> Places:
    """Write pickles and memory of `values`; large regions as blobs where there is a place for them."""
    manifests.write_file(directory / manifests.VALUES, values.pickles)
    regions = _stored_regions(values.regions, _as_pickled(values), directory, blobs)
    places = Places(values.items, values.memo_sizes, regions, values.spans, values.buffers)
    manifests.write_file(directory / manifests.PLACES, manifests.places_to_json(places))
    return places


def _stored_regions(
    regions: Sequence[Region], order: Sequence[int], directory: Path, blobs: Path | None
) -> tuple[StoredRegion, ...]:
    """Store the regions, in `order` where they lie together, and return where each of them is."""
    ordered = [regions[number] for number in order]
    stored = store_regions(blobs, ordered) if blobs is not None else [None] * len(ordered)
    places: list[StoredRegion | None] = [None] * len(regions)
    for number, place in zip(order, stored, strict=True):
        places[number] = place
    loose = iter(
        _as_one_file(
            [region for region, place in zip(regions, places, strict=True) if place is None],
            directory / manifests.MEMORY,
        )
    )
    return tuple(place or next(loose) for place in places)


def _as_one_file(regions: Sequence[Region], path: Path) -> list[StoredRegion]:
    stored = []
    end = 0
    with path.open("wb") as file:
        for region in regions:
            start = end + -end % ALIGNMENT
            file.write(bytes(start - end))
            file.write(region.memory)
            end = start + region.nbytes
            stored.append(StoredRegion(path.name, start, region.nbytes, region.device))
        file.flush()
        os.fsync(file.fileno())
    return stored


def _as_pickled(values: ValueStream) -> list[int]:
    """Return the regions' numbers in the order in which values refer to them.

    It is the same in another kernel, where addresses are not: so blobs are found again.
    """
    return list(dict.fromkeys(number for number, _ in values.spans))


def _entries(directory: Path) -> dict[str, FileEntry]:
    names = (manifests.VALUES, manifests.MEMORY, manifests.PLACES, manifests.CELL, manifests.TEXTS,
             manifests.DEFINITIONS)  # fmt: skip
    return {
        name: FileEntry((directory / name).stat().st_size, file_digest(directory / name))
        for name in names
    }


def _blob_facts(places: Places, blobs: Path) -> dict[str, tuple[int, int]]:
    digests = {region.file for region in places.regions} - {manifests.MEMORY}
    stats = {digest: (blobs / digest).stat() for digest in sorted(digests)}
    return {digest: (stat.st_size, stat.st_mtime_ns) for digest, stat in stats.items()}


def _python_version() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def _torch_version() -> str:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return ""


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# ---- open and load -----------------------------------------------------------------------------


def open_bundle(directory: Path, blobs: Path | None = None) -> Bundle:
    """Return the bundle in `directory` after checking every file; executes nothing of it.

    Raises: BundleError: incomplete, damaged, or made for another Python.
    """
    manifest = manifests.read_manifest(directory)
    if manifest.python != _python_version():
        raise BundleError(
            f"the bundle was made by Python {manifest.python}, this is {_python_version()}",
            hint=f"run the ranks with Python {manifest.python}",
        )
    check_files(directory, manifest.files)
    blobs = blobs or Path(manifest.blob_directory)
    for digest, (size, touched) in manifest.blobs.items():
        _check_blob(blobs / digest, digest, size, touched)
    cell = Cell(manifest.cell_number, (directory / manifests.CELL).read_text(), manifest.cell_file)
    texts = tuple(Cell(**text) for text in json.loads((directory / manifests.TEXTS).read_bytes()))
    return Bundle(directory, blobs, manifest, cell, texts)


def check_files(directory: Path, files: dict[str, FileEntry]) -> None:
    for name, entry in files.items():
        path = directory / name
        if Path(name).name != name or not path.is_file():
            raise BundleError(f"{path} is missing", hint="run the cell again")
        if path.stat().st_size != entry.size or file_digest(path) != entry.sha256:
            raise BundleError(f"{path} is not what was written", hint="run the cell again")


def _check_blob(path: Path, digest: str, size: int, touched: int) -> None:
    try:
        facts = path.stat()
    except FileNotFoundError as lost:
        raise BundleError(f"the blob {digest[:12]} is gone", hint="run the cell again") from lost
    # Nobody wrote to it since the kernel compared it: hashing a GB on each rank would buy nothing.
    untouched = facts.st_mtime_ns == touched
    if facts.st_size != size or (not untouched and file_digest(path) != digest):
        raise BundleError(f"the blob {digest[:12]} is damaged", hint="run the cell again")


@dataclass(slots=True)
class Bundle:
    """A verified bundle; `load` and `execute` are for ranks, `loaded` is what `load` made."""

    directory: Path
    blobs: Path
    manifest: Manifest
    cell: Cell
    texts: tuple[Cell, ...]
    loaded: Loaded | None = field(default=None, repr=False)

    def load(self) -> dict[str, Any]:
        """Return the namespace of the cell, which is that of this process's new `__main__`.

        Random generators and torch's settings become those of the kernel.
        """
        from nbaas.bundle.cells import install_main

        module = install_main(self)
        self.loaded = self.restore(vars(module), on_device=True)
        return vars(module)

    def execute(
        self, namespace: dict[str, Any], prepare: Callable[[ast.Module], ast.Module] | None = None
    ) -> None:
        """Run the cell; the user's exceptions come through, and show the cell's own lines.

        `prepare` may add statements to the cell's tree; those have the lines of others.
        """
        from nbaas.bundle.cells import run_cell

        run_cell(self.cell, namespace, prepare)

    def restore(
        self,
        namespace: dict[str, Any],
        *,
        on_device: bool = False,
        classes: Classes = None,
        bind: bool = True,
    ) -> Loaded:
        """Restore all values into `namespace` and return what is needed to see their changes.

        `classes` are taken by their name in place of those that would be made.  Without `bind` names,
        random generators and settings stay; `namespace` is then only the globals of functions.
        """
        places = manifests.places_from_json((self.directory / manifests.PLACES).read_bytes())
        device = _device(places) if on_device else "cpu"
        regions = LoadedRegions(places.regions, places.spans, self._path_of, device)
        pickles = (self.directory / manifests.VALUES).read_bytes()
        unpickler = ValueUnpickler(pickles, namespace, regions, places.buffers, classes=classes)
        return load_values(unpickler, places, namespace if bind else None, regions)

    def _path_of(self, name: str) -> Path:
        return self.directory / name if name == manifests.MEMORY else self.blobs / name


@dataclass(slots=True)
class Loaded:
    """Values in a process: by memo number, and as they were, to tell what the cell changed."""

    regions: LoadedRegions
    memo: dict[int, Any]
    noted: dict[int, tuple[Any, Any, Any]]
    initial: dict[str, Any]  # name -> value right after loading
    roots: dict[str, Any]  # the captured ones


def load_values(
    unpickler: ValueUnpickler,
    places: Places,
    namespace: dict[str, Any] | None,
    regions: LoadedRegions,
) -> Loaded:
    from nbaas.bundle.ambient import AMBIENT, set_ambient
    from nbaas.bundle.changes import note_all
    from nbaas.bundle.revive import revive

    roots = {}
    for item in places.items:
        value = unpickler.load()
        if item != AMBIENT:
            roots[item] = value
        elif namespace is not None:
            set_ambient(value)
        if namespace is not None and item != AMBIENT:
            namespace[item] = value  # at once: what is loaded next may use it
    memo = unpickler.memo.copy()
    if len(memo) != places.memo_sizes[-1]:
        raise BundleError(f"values are out of step: {len(memo)} of {places.memo_sizes[-1]}")
    revive(memo.values())
    return Loaded(regions, memo, note_all(memo), dict(namespace or {}), roots)


def _device(places: Places) -> str:
    """Return where values go that were on a GPU of the kernel."""
    if all(region.device == "cpu" for region in places.regions):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
