"""A job's metrics for other tools: TensorBoard's event files, MLflow's runs.

Rule: the tools are asked for where they are used; that one is missing is told before a job starts.
What an export fails at is told once, and never ends the job or the watching of it.
"""

from __future__ import annotations

import importlib.util
import io
import os
import queue
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from nbaas.errors import UsageError
from nbaas.jobs.follow import Update
from nbaas.jobs.job import Job, JobStatus
from nbaas.jobs.pictures import Logged, PictureReader, png_of
from nbaas.jobs.series import rows_of
from nbaas.records import JobSpec, Metric, State

EXPERIMENT = "nbaas"  # where MLFLOW_EXPERIMENT_NAME names none
MLFLOW_INTERVAL = 1.0  # seconds between two requests
CLOSE_TIMEOUT = 60.0  # seconds
MLFLOW_BATCH = 1000  # metrics in one request, MLflow's own limit


class Export(Protocol):
    """Takes what is new about a job, from one thread."""

    def rows(self, rank: int, rows: Iterable[Metric]) -> None: ...
    def pictures(self, logged: Iterable[Logged]) -> None: ...
    def close(self, status: JobStatus) -> None: ...


def check_tools(tensorboard: str, *, mlflow: bool) -> None:
    """Raise UsageError where a tool that is asked for is not installed."""
    if tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise UsageError(
            f"--tensorboard {tensorboard}: tensorboard is not installed",
            hint="pip install tensorboard; or nbaas metrics NAME --csv afterwards",
        )
    if mlflow and importlib.util.find_spec("mlflow") is None:
        raise UsageError("--mlflow: mlflow is not installed", hint="pip install mlflow-skinny")


def series_name(metric: Metric, rank: int, name: str) -> str:
    """Return the name of a series elsewhere: what a rank's process uses goes below its rank."""
    return f"rank{rank}/{name}" if metric.kind == "sys" else name


class TensorBoard:
    """Writes event files into a new folder of the job's name below `directory`."""

    def __init__(self, job: Job, directory: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = directory / job.name
        self.folder = folder if not folder.exists() else directory / f"{job.name}-{job.id}"
        self._paths = job.paths
        self._writer: Any = SummaryWriter(str(self.folder), max_queue=1000, flush_secs=5)
        self._writer.add_text("job", "\n".join(f"* {k}: {v}" for k, v in parameters(job.spec)))

    def rows(self, rank: int, rows: Iterable[Metric]) -> None:
        for metric in rows:
            if metric.kind != "sys" and rank:
                continue
            for name, value in metric.values.items():
                tag = series_name(metric, rank, name)
                self._writer.add_scalar(tag, value, metric.step, walltime=metric.time)

    def pictures(self, logged: Iterable[Logged]) -> None:
        for one in logged:
            if one.file and (png := png_of(self._paths, one)):
                self._writer.add_image(one.name, _pixels(png), one.step, dataformats="HWC")
            elif one.counts:
                self._histogram(one)

    def _histogram(self, one: Logged) -> None:
        width = (one.high - one.low) / len(one.counts)
        limits = [one.low + width * (at + 1) for at in range(len(one.counts))]
        middles = [limit - width / 2 for limit in limits]
        weighted = list(zip(middles, one.counts, strict=True))
        self._writer.add_histogram_raw(
            one.name,
            min=one.low,
            max=one.high,
            num=sum(one.counts),
            sum=sum(value * count for value, count in weighted),
            sum_squares=sum(value * value * count for value, count in weighted),
            bucket_limits=limits,
            bucket_counts=list(one.counts),
            global_step=one.step,
        )

    def close(self, status: JobStatus) -> None:  # noqa: ARG002 - event files have no states
        self._writer.close()


class Mlflow:
    """One MLflow run of the job's name, at the tracking server that the environment names."""

    def __init__(self, job: Job) -> None:
        from mlflow.tracking import MlflowClient

        self._paths = job.paths
        self._client: Any = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        self.run: str = self._client.create_run(experiment, run_name=job.name).info.run_id
        for key, value in parameters(job.spec):
            self._client.log_param(self.run, key, value)
        self._waiting: list[Any] = []
        self._next = 0.0

    def rows(self, rank: int, rows: Iterable[Metric]) -> None:
        from mlflow.entities import Metric as Entry

        for metric in rows:
            if metric.kind != "sys" and rank:
                continue
            moment = round(1000 * metric.time)
            for name, value in metric.values.items():
                key = series_name(metric, rank, name)
                self._waiting.append(Entry(_mlflow_name(key), value, moment, metric.step))
        if time.monotonic() >= self._next:
            self._send()

    def _send(self) -> None:
        self._next = time.monotonic() + MLFLOW_INTERVAL
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), MLFLOW_BATCH):
            self._client.log_batch(self.run, metrics=waiting[start : start + MLFLOW_BATCH])

    def pictures(self, logged: Iterable[Logged]) -> None:
        for one in logged:
            if one.file and (file := self._paths.pictures / one.file).is_file():
                folder = f"pictures/{_mlflow_name(one.name)}/step-{one.step}"
                self._client.log_artifact(self.run, str(file), folder)

    def close(self, status: JobStatus) -> None:
        self._send()
        ends = {State.SUCCEEDED: "FINISHED", State.STOPPED: "FINISHED", State.CANCELLED: "KILLED"}
        self._client.set_terminated(self.run, ends.get(status.state, "FAILED"))


class Exports:
    """Several exports of one job, in a thread of their own: a tracking server may be slow.

    The first failure of one is kept in `failed` and ends that one.
    """

    def __init__(self, job: Job, *, tensorboard: str = "", mlflow: bool = False) -> None:
        self.failed: list[str] = []
        self._open: dict[str, Export] = {}
        made: dict[str, Any] = {}
        if tensorboard:
            made["--tensorboard"] = lambda: TensorBoard(job, Path(tensorboard).expanduser())
        if mlflow:
            made["--mlflow"] = lambda: Mlflow(job)
        self._queue: queue.SimpleQueue[Update | JobStatus] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(made,), name="exports", daemon=True)
        if made:
            self._thread.start()

    @property
    def active(self) -> bool:
        return self._thread.ident is not None

    def take(self, update: Update) -> None:
        if self.active:
            self._queue.put(update)

    def close(self, status: JobStatus) -> None:
        """Return once everything is with the other tools, or after CLOSE_TIMEOUT seconds."""
        if self.active:
            self._queue.put(status)
            self._thread.join(CLOSE_TIMEOUT)

    def _run(self, made: dict[str, Any]) -> None:
        for flag, make in made.items():
            self._guarded(flag, lambda flag=flag, make=make: self._open.update({flag: make()}))
        while isinstance(fresh := self._queue.get(), Update):
            for flag, export in list(self._open.items()):
                self._guarded(flag, lambda export=export, fresh=fresh: _take(export, fresh))
        for flag, export in list(self._open.items()):
            self._guarded(flag, lambda export=export, end=fresh: export.close(end))

    def _guarded(self, flag: str, act: Any) -> None:
        try:
            act()
        except Exception as failed:  # noqa: BLE001 - another tool's, of any kind; the job goes on
            self._open.pop(flag, None)
            self.failed.append(f"{flag}: {type(failed).__name__}: {failed}")


def _take(export: Export, update: Update) -> None:
    for rank, rows in update.metrics.items():
        export.rows(rank, rows)
    export.pictures(update.pictures)


def export_all(job: Job, export: Export) -> None:
    """Export what a job has recorded so far, and close the export."""
    for slot in job.spec.slots:
        export.rows(slot.rank, rows_of(job, slot.rank))
    export.pictures(PictureReader(job.paths).read())
    export.close(job.status())


def exported(job: Job, tensorboard: str, *, mlflow: bool) -> list[str]:
    """Hand what a job has recorded to the tools that are asked for; return where it is now."""
    check_tools(tensorboard, mlflow=mlflow)
    places = []
    if tensorboard:
        board = TensorBoard(job, Path(tensorboard).expanduser())
        export_all(job, board)
        places.append(str(board.folder))
    if mlflow:
        run = Mlflow(job)
        export_all(job, run)
        places.append(f"MLflow run {run.run}")
    return places


def parameters(spec: JobSpec) -> Sequence[tuple[str, Any]]:
    """Return what a job was started with, for tools that keep parameters."""
    seed: Mapping[str, Any] = {} if spec.seed is None else {"seed": spec.seed}
    given = {"ranks": spec.world_size, "engine": spec.engine, "batch": spec.batch, **seed}
    return [*given.items(), ("job", spec.id)]


def _pixels(png: bytes) -> Any:
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))  # (H, W, 3)


def _mlflow_name(name: str) -> str:
    """Return a name of the letters that MLflow allows."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)
