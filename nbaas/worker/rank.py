"""One rank from start to exit code: 0 done, 1 the cell raised, 75 stopped on request.

Rules: the exit code is the rank's last word and comes from `os._exit`, so that a library which
crashes while the interpreter is torn down changes nothing.  Result and failure are on file before.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import faulthandler
import json
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from nbaas.errors import EngineError, NbaasError
from nbaas.records import JobPaths, JobSpec, RankFailure, from_json, to_json
from nbaas.worker import streams
from nbaas.worker.metrics import MetricsWriter, newest_values
from nbaas.worker.observe import Observer
from nbaas.worker.pictures import PictureWriter
from nbaas.worker.progress import Phase, ProgressWriter
from nbaas.worker.randomness import seed_all, seed_of
from nbaas.worker.recorder import RankRecorder, with_notes
from nbaas.worker.vitals import Vitals
from nbaas.worker.waiting import TimedEngine

if TYPE_CHECKING:
    from nbaas.bundle import Bundle
    from nbaas.worker.course import Course

EXIT_DONE, EXIT_FAILED, EXIT_STOPPED = 0, 1, 75


class Session(Protocol):
    """What `nbaas.parallel.activate` gives back, as far as a rank uses it."""

    def finish(self, names: Sequence[str] = ()) -> bool: ...
    def materialize(self, *trees: Any) -> None: ...
    def facts(self) -> dict[str, Any]: ...
    def request_stop(self, frame: FrameType | None = None) -> None: ...
    def watch_stop(self) -> None: ...
    def request_checkpoint(self) -> None: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class StopRequest:
    """Whether someone asked this rank to finish its step and return; set by SIGTERM."""

    asked: bool = False
    session: Session | None = None

    def install(self) -> None:
        signal.signal(signal.SIGTERM, self._on_sigterm)
        signal.signal(signal.SIGUSR2, self._on_sigusr2)
        # Python's own handlers wait for the main thread, which may wait in C for other ranks.
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(write_end, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, args=(read_end,), name="stop", daemon=True).start()
        os.register_at_fork(after_in_child=_forget_signals)

    def _listen(self, read_end: int) -> None:
        while heard := os.read(read_end, 512):
            if signal.SIGTERM in heard and self.session is not None:
                self.session.watch_stop()

    def _on_sigusr2(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.session is not None:
            self.session.request_checkpoint()

    def attach(self, session: Session) -> None:
        self.session = session
        if self.asked:
            session.request_stop()

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - number
        self.asked = True
        if self.session is None:
            # Before the cell runs there is nothing to finish.
            raise SystemExit(EXIT_STOPPED)
        self.session.request_stop(frame)


def _forget_signals() -> None:
    """Let a forked child (a DataLoader worker) die of SIGTERM as it would anywhere else."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Reports:
    """Tells the supervisor how far this rank is: counters on file, and a line on a pipe."""

    def __init__(self, progress: ProgressWriter, rank: int, fd: int | None) -> None:
        self._progress = progress
        self._rank = rank
        self._fd = fd

    def phase(self, phase: Phase) -> None:
        self._progress.phase(phase)
        if self._fd is not None:
            # A supervisor that is gone, or too slow to read a few bytes, must not end the rank.
            with contextlib.suppress(OSError):
                os.write(self._fd, b"%d %d\n" % (self._rank, phase))


class Rank:
    """Runs one rank of the job in `root`; `report_fd` is the pipe to the supervisor."""

    def __init__(self, root: Path, rank: int, report_fd: int | None = None) -> None:
        self.paths = JobPaths(root)
        self.spec = from_json(JobSpec, json.loads(self.paths.spec.read_text()))
        self.slot = self.spec.slots[rank]
        self.blobs = root.parent.parent / "blobs"
        self.stop = StopRequest()
        self.bundle: Bundle | None = None
        self.namespace: dict[str, Any] | None = None
        self._course: Course | None = None
        self._metrics: MetricsWriter | None = None
        self._recorder: RankRecorder | None = None
        self._progress = ProgressWriter(self.paths.progress(rank))
        self._reports = Reports(self._progress, rank, report_fd)

    def run(self) -> int:
        """Return the exit code; whatever ended the cell is on file by then."""
        self.stop.install()
        self._reports.phase(Phase.BORN)
        try:
            code = self._work()
        except SystemExit as leaving:
            code = self._left(leaving)
        except BaseException as failed:  # noqa: BLE001 - the user's own error, of any kind
            code = self._failed(failed)
        self._reports.phase(Phase.DONE)
        return code

    def _work(self) -> int:
        from nbaas.bundle import open_bundle
        from nbaas.engines.base import engine_named
        from nbaas.parallel import activate
        from nbaas.worker.rich import install as install_rich_outputs

        sys.path.insert(0, self.spec.cwd)
        if self.spec.modules:
            sys.path.insert(0, self.spec.modules)
        install_rich_outputs(self.paths, self.slot.rank)
        _set_threads(self.slot.threads)
        engine = TimedEngine(
            engine_named(self.spec.engine).start(self.slot, timeout=self.spec.start_timeout)
        )
        self._reports.phase(Phase.JOINED)
        journal = self.paths.metrics(self.slot.rank)
        before = newest_values(journal, "sys")
        metrics = MetricsWriter(journal)
        vitals = Vitals(metrics, engine, before)
        recorder = self._recorder = self._make_recorder(vitals, metrics)
        scratch = self.paths.scratch(self.slot.rank)
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            self._metrics = metrics
            self.bundle = open_bundle(self.paths.bundle, self.blobs)
            observer = Observer(metrics, self._progress, vitals)
            session = activate(
                engine,
                observer,
                rank_scratch=scratch,
                batch=self.spec.batch,
                one_host=not self.spec.hosts,
            )
            self.stop.attach(session)
            recorder.install()
            try:
                return self._run_cell(session)
            finally:
                # Until then a rank above 0 writes into its scratch folder, failures too.
                session.close()
        finally:
            recorder.close()
            vitals.close()
            metrics.close()
            with contextlib.suppress(EngineError):
                engine.shutdown()

    def _make_recorder(self, vitals: Vitals, metrics: MetricsWriter) -> RankRecorder:
        """Return what takes the calls of `nbaas.log`; of a rank above 0 nothing is kept."""
        if self.slot.rank:
            return RankRecorder(vitals, None, None)
        return RankRecorder(vitals, metrics, PictureWriter(self.paths.pictures))

    def _run_cell(self, session: Session) -> int:
        assert self.bundle is not None  # noqa: S101 - set by the only caller
        from nbaas.parallel.board import label_files

        # Before the values are loaded, which may bring the kernel's own random state with them.
        seed_all(seed_of(self.spec.id, self.spec.seed))
        self.namespace = self.bundle.load()
        cells = (self.bundle.cell, *self.bundle.texts)
        label_files({cell.file_name: cell.label for cell in cells})
        if self.spec.seed is not None:
            seed_all(self.spec.seed)
        self._reports.phase(Phase.RUNNING)
        # The supervisor's own files are private; what the cell writes is as if written by the kernel.
        os.umask(self.spec.umask)
        from nbaas.worker.saving import travels

        code = EXIT_DONE
        try:
            self._run_course(session)
        except BaseException as ended:
            if not _is_stop(ended):
                self._return_after(ended, session)
                raise
            code = EXIT_STOPPED
        values = {n: v for n, v in self.namespace.items() if travels(n, v)}
        # Where every rank has come to the same place, what is still sharded can be gathered.
        if session.finish(list(values)):
            session.materialize(values)
        self._return(session)
        return code

    def _run_course(self, session: Any) -> None:
        """Run the cell, from its last checkpoint where the job has one."""
        assert self.bundle is not None  # noqa: S101 - see _run_cell
        assert self.namespace is not None  # noqa: S101
        assert self._metrics is not None  # noqa: S101
        assert self._recorder is not None  # noqa: S101
        from nbaas.bundle.frontend import get_ipython
        from nbaas.worker.course import Course

        course = self._course = Course(
            self.spec, self.paths, self.bundle, session, self._recorder, self.slot.rank
        )
        course.begin(self.namespace, self._metrics.flush, self._stops)
        get_ipython().ranks = session
        try:
            self.bundle.execute(self.namespace, lambda tree: course.rewrite(with_notes(tree)))
        finally:
            get_ipython().ranks = None
            course.end()

    def _stops(self) -> None:
        """The checkpoint before a stop is being written: worth waiting for."""
        self._reports.phase(Phase.RETURNING)

    def _return_after(self, ended: BaseException, session: Session) -> None:
        """Bring back what there is when the cell raised; its own error is the one that counts."""
        try:
            self._return(session)
        except Exception as lost:  # noqa: BLE001 - anything may be wrong with half-made values
            ended.add_note(f"The values could not be brought back: {type(lost).__name__}: {lost}")

    def _return(self, session: Session) -> None:
        """Write the values of the namespace and the facts about the run; rank 0 only."""
        self._reports.phase(Phase.RETURNING)
        sys.stdout.flush()
        facts = {**session.facts(), **(self._course.facts() if self._course else {})}
        # Reading values back must be plain torch again, not collectives that other ranks miss.
        session.close()
        if self.slot.rank != 0 or self.bundle is None or self.namespace is None:
            return
        from nbaas.bundle import write_result

        _write_json(self.paths.facts, facts)
        temporary = self.paths.result.with_name("result.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        write_result(temporary, self.bundle, self.namespace, self.blobs)
        temporary.rename(self.paths.result)

    def _left(self, leaving: SystemExit) -> int:
        if leaving.code in (None, 0):
            return EXIT_DONE
        if leaving.code == EXIT_STOPPED and self.stop.asked:
            return EXIT_STOPPED
        return self._failed(leaving)

    def _failed(self, failed: BaseException) -> int:
        failure = self._describe(failed)
        _write_json(self.paths.failure(self.slot.rank), to_json(failure))
        # Where another rank's end is the cause and the gang may start again, one line says enough.
        told = (
            f"{failure.kind}: {failure.message}"
            if self._may_restart(failure)
            else failure.traceback
        )
        print(told, file=sys.stderr, flush=True)  # noqa: T201 - into the rank's log
        return EXIT_FAILED

    def _may_restart(self, failure: RankFailure) -> bool:
        return failure.secondary and self.spec.max_restarts > 0

    def _describe(self, failed: BaseException) -> RankFailure:
        # A collective that another rank left is never the cause.
        secondary = isinstance(failed, EngineError)
        if self.bundle is not None:
            from nbaas.bundle import describe_failure

            failure = describe_failure(failed, self.slot.rank, self.bundle)
            return dataclasses.replace(failure, secondary=secondary or failure.secondary)
        lines = traceback.format_exception(failed)
        if isinstance(failed, NbaasError):
            lines = [f"{type(failed).__name__}: {failed}\n"]
        kind = type(failed).__name__
        return RankFailure(self.slot.rank, kind, str(failed), "".join(lines), secondary)


def start(root: Path, rank: int, report_fd: int | None) -> int:
    """Return the exit code of a rank whose process already answers to its supervisor."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    streams.install()
    return Rank(root, rank, report_fd).run()


def leave(code: int, exit_file: Path) -> None:
    """End this process with `code`, which is on file first."""
    atexit._run_exitfuncs()  # noqa: SLF001 - libraries end their own helpers there
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    with contextlib.suppress(OSError):
        exit_file.write_text(str(code))
    os._exit(code)


def _is_stop(ended: BaseException) -> bool:
    from nbaas.parallel import StopTraining

    return isinstance(ended, StopTraining)


def _set_threads(threads: int) -> None:
    """Give torch its share of the cores; in a forked rank the environment comes too late."""
    import torch

    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, default=str))
    temporary.rename(path)
