"""What a version is: its signature, its files with their hashes, and how it is to be run.

Rules: standard library only, so that the gateway and the registry load nothing heavy; a manifest is
written last, and the name of a version directory ends with the digest of its manifest, so that a
changed byte anywhere in the directory shows.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbaas.errors import BundleError, DeployError
from nbaas.records import from_json, to_json

MANIFEST = "manifest.json"
STRUCTURE = "structure.json"
WEIGHTS = "model.safetensors"
GOLDEN = "golden.safetensors"
ONNX = "model.onnx"
SOURCE = "source"  # folder of modules
FORMAT = 1
MAX_MANIFEST = 4 << 20  # bytes
DIGEST_LENGTH = 16  # hex digits in the name of a version directory


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output; `datatype` as Open Inference names it, -1 in `shape` is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.datatype} {_shape_text(self.shape)}"


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs in the order of the model's arguments, outputs in the order they come back.

    `call` is how the model takes its inputs: 'positional' or 'keyword'.  `returns` is what it gives:
    'tensor', 'sequence' or 'mapping'.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    call: str = "positional"
    returns: str = "tensor"

    def input_named(self, name: str) -> TensorSpec | None:
        return next((spec for spec in self.inputs if spec.name == name), None)


@dataclass(frozen=True, slots=True)
class FileEntry:
    sha256: str
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class VersionManifest:
    """Everything about one version but its weights; a file of JSON in the version directory."""

    name: str
    created: float  # seconds since the epoch
    model_class: str  # qualified name, for display
    signature: Signature
    files: dict[str, FileEntry]
    batchable: bool = True  # rows of a batch are answered as if each came alone
    deterministic: bool = True  # the golden output is compared by value
    streams: bool = False  # it yields; `signature.outputs` are those of one item
    interleaves: bool = True  # a stream is as if alone while others of the replica run
    device: str = "cpu"
    parameters: int = 0  # elements
    versions: dict[str, str] = field(default_factory=dict)  # python, torch, distributions
    engine: str = "torch"  # torch | onnx
    engine_notes: dict[str, Any] = field(default_factory=dict)  # what was measured to choose it
    steps: dict[str, str] = field(default_factory=dict)  # pre, post: where the function is found
    facts: dict[str, Any] = field(default_factory=dict)  # job, metrics: for the model card
    format: int = FORMAT


def signature_from(data: dict[str, Any]) -> Signature:
    specs = {
        key: tuple(
            TensorSpec(spec["name"], spec["datatype"], tuple(spec["shape"])) for spec in data[key]
        )
        for key in ("inputs", "outputs")
    }
    return from_json(Signature, data | specs)


def write_manifest(directory: Path, manifest: VersionManifest) -> str:
    """Write the manifest, synced; return its digest (64 hex digits)."""
    text = json.dumps(to_json(manifest), indent=1, sort_keys=True, allow_nan=False).encode()
    if len(text) > MAX_MANIFEST:
        raise DeployError(f"the manifest would be {len(text)} bytes, over {MAX_MANIFEST}")
    path = directory / MANIFEST
    with path.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(text).hexdigest()


def read_manifest(directory: Path) -> VersionManifest:
    """Return the manifest of a version directory; only its own digest is checked, not the files.

    Raises: BundleError: it is missing, changed, or not of a format known here.
    """
    path = directory / MANIFEST
    try:
        with path.open("rb") as file:
            text = file.read(MAX_MANIFEST + 1)
    except OSError as lost:
        raise BundleError(f"{path.name} of {directory.name} cannot be read: {lost}") from lost
    expected = directory.name.rpartition("-")[2]
    actual = hashlib.sha256(text).hexdigest()
    if len(expected) == DIGEST_LENGTH and not actual.startswith(expected):
        raise BundleError(
            f"{path.name} of {directory.name} is damaged: SHA-256 {actual[:16]}, not {expected}",
            hint="deploy the model again, or %rollback",
        )
    try:
        return _parsed(json.loads(text))
    except (ValueError, TypeError, KeyError, RecursionError) as wrong:
        raise BundleError(
            f"{path.name} of {directory.name} is not a manifest: {wrong!r}"
        ) from wrong


def _parsed(data: dict[str, Any]) -> VersionManifest:
    if data.get("format") != FORMAT:
        raise ValueError(f"format {data.get('format')!r} is not {FORMAT}")
    files = {name: from_json(FileEntry, entry) for name, entry in data["files"].items()}
    converted = data | {"files": files, "signature": signature_from(data["signature"])}
    return from_json(VersionManifest, converted)


def hashed_files(directory: Path) -> dict[str, FileEntry]:
    """Return size and SHA-256 of every file below `directory`, the manifest left out."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {
        path.relative_to(directory).as_posix(): FileEntry(sha256_of(path), path.stat().st_size)
        for path in paths
        if path.name != MANIFEST
    }


def verify_files(directory: Path, manifest: VersionManifest) -> None:
    """Check every file against the manifest; an unlisted file under source/ is refused too.

    Raises: BundleError: names the file, and both hashes where it is the content that differs.
    """
    for name, entry in manifest.files.items():
        path = directory / name
        if not path.resolve().is_relative_to(directory.resolve()) or path.is_symlink():
            raise BundleError(f"{name} leads out of the version directory {directory.name}")
        if not path.is_file():
            raise BundleError(f"{name} is missing from {directory.name}", hint=_AGAIN)
        size = path.stat().st_size
        if size != entry.size:
            raise BundleError(
                f"{name} of {directory.name} is damaged: {size} bytes, not {entry.size}",
                hint=_AGAIN,
            )
        if (actual := sha256_of(path)) != entry.sha256:
            raise BundleError(
                f"{name} of {directory.name} is damaged: SHA-256 {actual[:16]}, "
                f"not {entry.sha256[:16]}",
                hint=_AGAIN,
            )
    unlisted = hashed_names(directory / SOURCE, directory) - manifest.files.keys()
    if unlisted:
        raise BundleError(f"{min(unlisted)} is not in the manifest of {directory.name}")


_AGAIN = "deploy the model again, or %rollback"


def hashed_names(folder: Path, root: Path) -> set[str]:
    return {p.relative_to(root).as_posix() for p in folder.rglob("*") if p.is_file()}


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shape_text(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"
