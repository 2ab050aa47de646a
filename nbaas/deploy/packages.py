"""A version taken elsewhere: a build context, a KServe manifest, or a model file, each with a README.

Rules: the folder appears whole, by a rename, and must not exist before; what is in it has been run
here and compared with the golden output.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import nbaas
from nbaas._version import __version__
from nbaas.config import Settings
from nbaas.deploy.card import card_of
from nbaas.deploy.kserve import as_yaml, inference_service, service_name
from nbaas.deploy.manifest import VersionManifest, read_manifest, verify_files
from nbaas.deploy.package_texts import (
    DOCKERFILE,
    IGNORED,
    SERVE,
    file_readme,
    image_readme,
    kserve_readme,
    secret_example,
)
from nbaas.deploy.registry import Options, read_endpoint, version_folder, version_folders
from nbaas.deploy.standalone import PORT, Served, write_served
from nbaas.errors import DeployError, EndpointNotFoundError, UsageError
from nbaas.records import to_json

KINDS = ("image", "kserve", "torchscript", "onnx", "torch-export")
MODEL_FILES = {"torchscript": "model.pt", "torch-export": "model.pt2", "onnx": "model.onnx"}
SERVING = ("torch", "numpy", "safetensors", "msgspec", "httptools", "uvloop", "prometheus-client")
BY_ENGINE = {"onnx": ("onnxruntime",)}
LEFT_OUT = ("labextension", "__pycache__", "*.pyc")  # of the nbaas that goes along
TIMEOUT = 600.0  # seconds for the export of a model file
BASE_MEMORY = 400 << 20  # bytes: Python, torch, gateway


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written; `difference` is the largest one to the golden output, of a model file."""

    folder: Path
    kind: str
    files: tuple[str, ...]
    difference: float | None = None

    def __repr__(self) -> str:
        checked = "" if self.difference is None else (
            f", answers differ from the version's by at most {self.difference:.2g}"
        )  # fmt: skip
        return f"{self.kind} in {self.folder}: {', '.join(self.files)}{checked}"


@dataclass(frozen=True, slots=True)
class _Source:
    """The version that is taken elsewhere."""

    name: str
    version: int
    folder: Path
    manifest: VersionManifest
    options: Options
    image: str


def export_version(
    settings: Settings,
    name: str,
    kind: str,
    target: Path,
    *,
    version: int | None = None,
    image: str = "",
) -> Exported:
    """Write the served version of an endpoint, or `version`, into the new folder `target`.

    Raises: UsageError: no such kind, or the folder exists.  DeployError: the model has no such form.
    """
    if kind not in KINDS:
        raise UsageError(f"{kind!r} is no form to export to", hint="known: " + ", ".join(KINDS))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists already", hint="name a new folder")
    source = _source(settings, name, version, image)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    draft.mkdir()
    try:
        writer = _WRITERS.get(kind)
        difference = writer(source, draft) if writer else _write_file(source, kind, draft)
        draft.replace(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    files = tuple(sorted(path.name for path in target.iterdir() if path.name[0] != "."))
    return Exported(target, kind, files, difference)


def _source(settings: Settings, name: str, version: int | None, image: str) -> _Source:
    record = read_endpoint(settings.endpoints, name)
    known = version_folders(settings.endpoints, name)
    if not known:
        raise EndpointNotFoundError(f"there is no endpoint {name!r}", hint="%endpoints lists them")
    number = version or record.current or max(known)
    folder = version_folder(settings.endpoints, name, number)
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    image = image or f"{service_name(name)}:{number}"
    return _Source(name, number, folder, manifest, record.options, image)


# ---------------------------------------------------------------- images


def _write_image(source: _Source, draft: Path) -> None:
    """Write a build context: the version, this nbaas, pinned requirements, an entry point."""
    model = draft / "model"
    model.mkdir()
    shutil.copytree(source.folder, model / source.folder.name)
    write_served(model, Served(source.name, source.version, source.folder.name, source.options))
    ignore = shutil.ignore_patterns(*LEFT_OUT)
    shutil.copytree(Path(nbaas.__file__).parent, draft / "nbaas", ignore=ignore)
    python = ".".join(source.manifest.versions.get("python", "3.11").split(".")[:2])
    pinned = requirements(source.manifest)
    written = {
        "Dockerfile": DOCKERFILE.format(python=python, port=PORT),
        ".dockerignore": IGNORED,
        "requirements.txt": "".join(f"{line}\n" for line in pinned),
        "serve.py": SERVE.format(name=source.name, version=source.version),
        "CARD.md": _card(source),
        "README.md": image_readme(source.name, source.version, source.image, PORT,
                                  source.manifest.signature),
    }  # fmt: skip
    for path, text in written.items():
        (draft / path).write_text(text, encoding="utf-8")


def requirements(manifest: VersionManifest) -> list[str]:
    """Return what the server and the model import, pinned to the versions of the deploy or of here."""
    names = [*SERVING, *BY_ENGINE.get(manifest.engine, ())]
    # A build of torch for one machine (2.13.0+cpu) has no name elsewhere.
    pins = {
        _canonical(n): v.partition("+")[0] for n, v in manifest.versions.items() if n != "python"
    }
    for name in names:
        if _canonical(name) not in pins:
            try:
                pins[_canonical(name)] = metadata.version(name).partition("+")[0]
            except metadata.PackageNotFoundError:
                continue
    return [f"{name}=={version}" for name, version in sorted(pins.items())]


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-")


def _card(source: _Source) -> str:
    return card_of(source.manifest, source.version).markdown


def _write_kserve(source: _Source, draft: Path) -> None:
    """Write the build context and, beside it, the manifest that runs its image."""
    _write_image(source, draft)
    weights = sum(entry.size for entry in source.manifest.files.values())
    replicas = source.options.replicas
    manifest = inference_service(
        source.name, source.image, port=PORT, memory=BASE_MEMORY + replicas * (BASE_MEMORY + 3 * weights),
        cpus=max(1, replicas), replicas=(1, 3),
    )  # fmt: skip
    (draft / "inferenceservice.yaml").write_text(as_yaml(manifest))
    service = service_name(source.name)
    (draft / "secret.example.yaml").write_text(secret_example(service))
    (draft / "README.md").write_text(
        kserve_readme(source.name, source.version, source.image, service, PORT,
                      source.manifest.signature)
    )  # fmt: skip


# ---------------------------------------------------------------- model files


def _write_file(source: _Source, kind: str, draft: Path) -> float:
    """Write the model as one file, made and compared in a process of its own."""
    if kind == "onnx":
        missing = [n for n in ("onnx", "onnxscript", "onnxruntime") if not _installed(n)]
        if missing:
            raise DeployError(f"{missing[0]} is not installed", hint="pip install 'nbaas[onnx]'")
    if source.manifest.streams:
        raise DeployError(
            f"{source.name} yields, and cannot be written as {kind}",
            hint="nbaas export --to image takes any model that is deployed",
        )
    file = MODEL_FILES[kind]
    found = _in_process(source.folder, kind, draft / file)
    if "error" in found:
        raise DeployError(
            f"{source.name} cannot be written as {kind}: {found['error']}",
            hint="nbaas export --to image takes any model that is deployed",
        )
    shutil.copyfile(source.folder / "golden.safetensors", draft / "golden.safetensors")
    signature = to_json(source.manifest.signature)
    told = {"name": source.name, "version": source.version, "nbaas": __version__, **signature}
    (draft / "signature.json").write_text(json.dumps(told, indent=1) + "\n")
    (draft / "README.md").write_text(
        file_readme(kind, file, source.name, source.version, source.manifest.signature,
                    source.manifest.versions, float(found["difference"]))
    )  # fmt: skip
    return float(found["difference"])


def _installed(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


def _in_process(folder: Path, kind: str, target: Path) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", "nbaas.deploy.portable", str(folder), kind, str(target)]
    path = os.pathsep.join(filter(None, [*sys.path[1:], os.environ.get("PYTHONPATH", "")]))
    home = str(Path(nbaas.__file__).parents[1])
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT, check=False,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([path, home]), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"error": f"it took over {TIMEOUT:g} s"}
    try:
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": (done.stderr.strip().splitlines() or ["no reason given"])[-1]}
    return found


_WRITERS: dict[str, Callable[[_Source, Path], None]] = {
    "image": _write_image,
    "kserve": _write_kserve,
}
