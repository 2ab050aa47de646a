"""The manifest of a bundle: what is in it, with sizes and digests; JSON, written last."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbaas.bundle.contents import FORMAT, CapturedName
from nbaas.bundle.memory import StoredRegion
from nbaas.errors import BundleError

MANIFEST = "manifest.json"
VALUES = "values.pkl"
MEMORY = "values.bin"
PLACES = "places.json"  # regions and spans
CELL = "cell.py"
TEXTS = "texts.json"
DEFINITIONS = "definitions.py"


@dataclass(frozen=True, slots=True)
class FileEntry:
    size: int  # bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `build_bundle` wrote; `blobs` are digests with the size and time of the file."""

    format: int
    python: str  # 3.11
    torch: str
    nbaas: str
    cell_number: int
    cell_file: str
    names: tuple[CapturedName, ...]
    files: dict[str, FileEntry]
    blobs: dict[str, tuple[int, int]]  # digest -> bytes, mtime in ns: touched since, hashed again
    blob_directory: str
    sys_path: tuple[str, ...]
    notices: tuple[str, ...]
    missing: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def size(self) -> int:
        return sum(f.size for f in self.files.values()) + sum(b[0] for b in self.blobs.values())


@dataclass(frozen=True, slots=True)
class Places:
    """Where the memory of the values is; see contents.ValueStream."""

    items: tuple[str, ...]
    memo_sizes: tuple[int, ...]
    regions: tuple[StoredRegion, ...]
    spans: tuple[tuple[int, int], ...]
    buffers: tuple[tuple[int, int], ...]


def write_manifest(path: Path, manifest: Manifest) -> None:
    write_file(path, json.dumps(asdict(manifest), indent=1).encode())


def read_manifest(directory: Path) -> Manifest:
    """Return the manifest of the bundle in `directory`.

    Raises: BundleError: none there, damaged, or of another format.
    """
    try:
        data: dict[str, Any] = json.loads((directory / MANIFEST).read_bytes())
        if data["format"] != FORMAT:
            raise BundleError(
                f"{directory} is a bundle of format {data['format']}, this nbaas reads {FORMAT}",
                hint="run it with the nbaas that made it",
            )
        return Manifest(
            **{
                **data,
                "names": tuple(CapturedName(**name) for name in data["names"]),
                "files": {name: FileEntry(**entry) for name, entry in data["files"].items()},
                "blobs": {name: (size, time) for name, (size, time) in data["blobs"].items()},
                **{key: tuple(data[key]) for key in ("sys_path", "notices", "missing", "left_out")},
            }
        )
    except FileNotFoundError as lost:
        raise BundleError(
            f"no complete bundle in {directory}",
            hint="its manifest is written last: run the cell again",
        ) from lost
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as wrong:
        raise BundleError(f"the manifest in {directory} is damaged: {wrong}") from wrong


def places_to_json(places: Places) -> bytes:
    regions = [[r.file, r.offset, r.nbytes, r.device] for r in places.regions]
    fields = {**_fields(places), "regions": regions}
    return json.dumps(fields, separators=(",", ":")).encode()


def _fields(places: Places) -> Mapping[str, Any]:
    return {name: getattr(places, name) for name in ("items", "memo_sizes", "spans", "buffers")}


def places_from_json(data: bytes) -> Places:
    fields = json.loads(data)
    return Places(
        tuple(fields["items"]),
        tuple(fields["memo_sizes"]),
        tuple(StoredRegion(*region) for region in fields["regions"]),
        tuple((region, offset) for region, offset in fields["spans"]),
        tuple((span, nbytes) for span, nbytes in fields["buffers"]),
    )


def write_file(path: Path, data: bytes) -> None:
    """Write a file that is on disk when this returns."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
