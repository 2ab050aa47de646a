"""A cell or a function becomes a job: placed, checked, captured, handed to its supervisor.

Rule: what can be wrong is found in the order it costs: flags, placement, engine, capture.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nbaas.bundle import build_bundle
from nbaas.bundle.contents import CellContents
from nbaas.capture import capture_cell
from nbaas.capture.local import local_modules, write_modules
from nbaas.config import Settings
from nbaas.engines.base import engine_named
from nbaas.errors import UsageError
from nbaas.jobs.exports import check_tools
from nbaas.jobs.job import Job
from nbaas.jobs.names import checked_name
from nbaas.jobs.submit import new_spec, submit
from nbaas.magics.placing import placed
from nbaas.magics.shell import CellCode, Shell
from nbaas.records import JobSpec, Slot


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What `%%train` was asked; None and "" are what the settings say."""

    gpus: int | None = None
    ranks: int | None = None
    name: str = ""
    engine: str = ""
    seed: int | None = None
    batch: str = "global"
    background: bool = False
    out: str = ""
    exclude: tuple[str, ...] = ()
    hosts: str = ""  # as typed
    cluster: str = ""
    workdir: str = ""
    checkpoint_every: str = ""
    max_restarts: int = 0
    tensorboard: str = ""  # a directory for event files
    mlflow: bool = False


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that runs, and what it captured: the objects its result goes back into."""

    job: Job
    contents: CellContents | None  # None: another kernel made the job


def prepared_spec(settings: Settings, options: TrainOptions, origin: str) -> JobSpec:
    """Return the record of the job to be; raises before anything of the cell is looked at."""
    if options.name:
        checked_name(options.name)
    check_tools(options.tensorboard, mlflow=options.mlflow)
    slots, hosts = placed(settings, options)
    if hosts and options.max_restarts:
        raise UsageError(
            "--max-restarts is for ranks on this machine: a checkpoint lies on one host",
            hint="leave it out, or --ranks 2",
        )
    engine = _engine(settings, options, slots)
    engine_named(engine).check()
    spec = new_spec(
        settings,
        slots,
        name=options.name,
        engine=engine,
        seed=options.seed,
        batch=options.batch,
        origin=origin,
        hosts=hosts,
    )
    return replace(
        spec, checkpoint_every=options.checkpoint_every, max_restarts=options.max_restarts
    )


def captured(
    shell: Shell, code: CellCode, namespace: dict[str, Any], exclude: Sequence[str]
) -> CellContents:
    """Return what `code` needs, as it is now."""
    return capture_cell(
        code.source,
        namespace,
        execution_count=code.number,
        file_name=code.file_name,
        history=shell.history(),
        exclude=exclude,
    )


def submitted(settings: Settings, spec: JobSpec, contents: CellContents) -> Submitted:
    """Return the running job; an interrupt while it starts stops it again."""

    def write_bundle(directory: Path) -> object:
        if spec.hosts:
            texts = [contents.cell.source, *(text.source for text in contents.texts)]
            write_modules(local_modules(texts), directory.parent / "modules")
        return build_bundle(directory, contents, settings.blobs)

    try:
        started = Submitted(submit(settings, spec, write_bundle), contents)
        keep_contents(spec.id, contents)
        return started
    except KeyboardInterrupt:
        _stop_if_started(settings, spec)
        raise


_kept: OrderedDict[str, CellContents] = OrderedDict()  # job id -> what this kernel captured
KEPT = 2  # jobs whose captured objects are remembered: %resume brings values back into them


def keep_contents(job_id: str, contents: CellContents | None) -> None:
    """Remember what the job `job_id` was given, for the newest KEPT jobs."""
    if contents is not None:
        _kept[job_id] = contents
    while len(_kept) > KEPT:
        _kept.popitem(last=False)


def contents_of(job_id: str) -> CellContents | None:
    """Return what this kernel captured for a job; None where it was another, or long ago."""
    return _kept.get(job_id)


def _engine(settings: Settings, options: TrainOptions, slots: Sequence[Slot]) -> str:
    # One rank has nobody to talk to: it needs no engine that must be built first.
    alone = "serial" if len(slots) == 1 else settings.engine
    return options.engine or alone


def _stop_if_started(settings: Settings, spec: JobSpec) -> None:
    root = settings.jobs / spec.id
    if root.exists():
        from nbaas.jobs.job import open_job

        open_job(root).stop()
