"""A job that has been, run once more: its bundle found by the job's name, id or folder, and copied.

Rule: nothing of the first job is touched; what its bundle refers to is linked or copied, never moved.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nbaas.bundle import open_bundle, read_manifest
from nbaas.bundle.manifest import MANIFEST
from nbaas.config import Settings
from nbaas.errors import BundleError, JobError, JobNotFoundError
from nbaas.jobs.job import Job, open_job
from nbaas.jobs.store import find_job
from nbaas.jobs.submit import new_spec, submit
from nbaas.records import JobSpec, Slot


@dataclass(frozen=True, slots=True)
class Source:
    """A bundle, and the job it was made for where its folder is still around it."""

    bundle: Path
    spec: JobSpec | None = None

    @property
    def name(self) -> str:
        return self.spec.name if self.spec else self.bundle.name


def find_source(settings: Settings, where: str) -> Source:
    """Return the bundle of a job's name or id, of a job's folder, or of a bundle's own folder.

    Raises: JobNotFoundError, BundleError: there is none.
    """
    folder = Path(where).expanduser()
    if not folder.is_dir():
        try:
            job = find_job(settings, where)
        except JobNotFoundError as lost:
            raise JobNotFoundError(
                f"{where!r} is neither a job nor a folder with a bundle", hint=lost.hint
            ) from lost
        return Source(job.paths.bundle, job.spec)
    folder = folder.resolve()
    bundle = folder if (folder / MANIFEST).is_file() else folder / "bundle"
    if not (bundle / MANIFEST).is_file():
        raise BundleError(
            f"{folder} holds no bundle", hint="name a job, its folder, or the bundle in it"
        )
    with contextlib.suppress(JobError):
        return Source(bundle, open_job(bundle.parent).spec)
    return Source(bundle)


def rerun(
    settings: Settings,
    source: Source,
    slots: Sequence[Slot],
    *,
    name: str = "",
    engine: str = "",
    seed: int | None = None,
) -> Job:
    """Return a new job that runs the bundle of `source` on `slots`.

    What is not given is as in the first job.  Raises: BundleError: it is not whole, or is for
    another Python.
    """
    bring_blobs(source.bundle, settings.blobs)
    open_bundle(source.bundle, settings.blobs)
    return submit(
        settings,
        _spec(settings, source, slots, name=name, engine=engine, seed=seed),
        lambda directory: _copy(source.bundle, directory),
    )


def _spec(
    settings: Settings,
    source: Source,
    slots: Sequence[Slot],
    *,
    name: str,
    engine: str,
    seed: int | None,
) -> JobSpec:
    first = source.spec
    usual = first.engine if first and first.engine != "serial" else settings.engine
    spec = new_spec(
        settings,
        slots,
        name=name,
        engine=engine or ("serial" if len(slots) == 1 else usual),
        seed=first.seed if first and seed is None else seed,
        batch=first.batch if first else "global",
        origin=f"nbaas run {source.name}",
    )
    if first is None:
        return spec
    # Relative paths of the cell mean what they meant in the notebook.
    cwd = first.cwd if Path(first.cwd).is_dir() else spec.cwd
    return replace(spec, cwd=cwd, env={**first.env, **spec.env})


def bring_blobs(bundle: Path, blobs: Path) -> None:
    """Have every blob of a bundle in `blobs`: linked, or copied, from where the bundle came from."""
    manifest = read_manifest(bundle)
    homes = (Path(manifest.blob_directory), bundle.parent.parent.parent / "blobs")
    for digest in manifest.blobs:
        target = blobs / digest
        found = next((home / digest for home in homes if (home / digest).is_file()), None)
        if target.exists() or found is None:
            continue  # what is missing is named when the bundle is opened
        blobs.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            os.link(found, target)
        except OSError:  # another file system
            temporary = target.with_name(f".{digest}")
            shutil.copy2(found, temporary)
            temporary.rename(target)


def _copy(bundle: Path, directory: Path) -> None:
    directory.mkdir(mode=0o700)
    for name in (*read_manifest(bundle).files, MANIFEST):
        shutil.copy2(bundle / name, directory / name)
