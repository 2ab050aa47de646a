"""What crashes leave behind, found by looking and mended on request.

Rules: finding changes nothing but that a job whose supervisor died is declared LOST, as any look at it
does; nothing that a living process answers for is touched.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nbaas.config import Settings
from nbaas.errors import JobError
from nbaas.jobs.events import mend
from nbaas.jobs.job import Job, open_job
from nbaas.jobs.names import JOB_ID
from nbaas.jobs.reconcile import history_of, reconciled
from nbaas.jobs.retention import abandoned
from nbaas.launchers.forked import BLANK_TAG
from nbaas.launchers.locks import is_held, take_lock
from nbaas.launchers.processes import TAG, kill_tagged
from nbaas.launchers.sockets import socket_folder
from nbaas.records import JobPaths
from nbaas.worker.checkpoints import remove_leftovers, unfinished
from nbaas.worker.kept import is_damaged, set_aside

SOCKET = re.compile(rf"({JOB_ID.pattern}|zygote-[0-9a-f]{{16}})\.sock")


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that a crash has left; `mend` puts it right and may be called once."""

    kind: (
        str  # 'draft', 'torn journal', 'dead socket', 'orphan', 'curves', 'lost job', 'checkpoint'
    )
    text: str
    mend: Callable[[], object]


def find_leftovers(settings: Settings) -> list[Leftover]:
    """Return everything that is found, in the order in which it is mended."""
    return [
        *_lost_jobs(settings),
        *_orphans(settings),
        *_drafts(settings),
        *_torn(settings),
        *_sockets(),
        *_curves(settings),
    ]


def _jobs(settings: Settings) -> Iterator[Job]:
    for path in sorted(settings.jobs.glob("*")):
        if JOB_ID.fullmatch(path.name):
            with contextlib.suppress(JobError):
                yield open_job(path)


def _lost_jobs(settings: Settings) -> Iterator[Leftover]:
    """Yield jobs that are not over and that nobody answers for."""
    for job in _jobs(settings):
        history = history_of(job.paths)
        if history.state is None or history.state.final or is_held(job.paths.lock):
            continue
        text = f"{job.name} ({job.id}) was {history.state.value} when its supervisor died"
        yield Leftover("lost job", text, partial(_reconcile, job))


def _reconcile(job: Job) -> None:
    reconciled(job.paths, job.history())


def _orphans(settings: Settings) -> Iterator[Leftover]:
    """Yield processes of jobs that are over, or whose folder is gone."""
    for job_id, pids in sorted(tagged_jobs().items()):
        paths = JobPaths(settings.jobs / job_id)
        # A job of another NBAAS_HOME is none of ours, unless its folder was here.
        state = history_of(paths).state if paths.root.is_dir() else None
        if state is None or not state.final or is_held(paths.lock):
            continue
        listed = ", ".join(map(str, pids))
        text = f"process {listed} of {job_id}, which is {state.value}"
        yield Leftover("orphan", text, partial(kill_tagged, job_id))


def tagged_jobs() -> dict[str, list[int]]:
    """Return the processes of this user by the job they are tagged with."""
    found: dict[str, list[int]] = {}
    for entry in os.scandir("/proc") if sys.platform == "linux" else ():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            environ = Path(entry.path, "environ").read_bytes().split(b"\0")
            tags = [line for line in environ if line.startswith(f"{TAG}=".encode())]
            job_id = tags[0].partition(b"=")[2].decode() if tags else BLANK_TAG
            if job_id != BLANK_TAG and entry.stat().st_uid == os.getuid():
                found.setdefault(job_id, []).append(int(entry.name))
    return found


def _drafts(settings: Settings) -> Iterator[Leftover]:
    """Yield folders of jobs half made or half removed, results and checkpoints half written."""
    for path in abandoned(settings.jobs, time.time()):
        yield Leftover("draft", str(path), partial(shutil.rmtree, path))
    for job in _jobs(settings):
        if is_held(job.paths.lock):
            continue
        if unfinished(job.paths.checkpoints):
            folder = job.paths.checkpoints
            text = f"{folder}: one was being written or removed"
            yield Leftover("checkpoint", text, partial(remove_leftovers, folder))
        half = job.paths.result.with_name("result.tmp")
        if half.exists():
            yield Leftover("draft", str(half), partial(shutil.rmtree, half))


def _torn(settings: Settings) -> Iterator[Leftover]:
    """Yield state journals whose last line was cut short."""
    for job in _jobs(settings):
        path = job.paths.events
        with contextlib.suppress(OSError), path.open("rb") as file:
            if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) >= 0:
                whole = file.read(1) == b"\n"
                if not whole and not is_held(job.paths.lock):
                    yield Leftover("torn journal", str(path), partial(_mend, job))


def _mend(job: Job) -> None:
    lock = take_lock(job.paths.lock)
    if lock is not None:
        try:
            mend(job.paths)
        finally:
            os.close(lock)


def _sockets() -> Iterator[Leftover]:
    """Yield sockets that nobody listens on."""
    for path in sorted(socket_folder().glob("*.sock")):
        if not SOCKET.fullmatch(path.name):
            continue
        kind = socket.SOCK_SEQPACKET if path.name.startswith("zygote") else socket.SOCK_STREAM
        with socket.socket(socket.AF_UNIX, kind) as client:
            try:
                client.settimeout(1.0)
                client.connect(str(path))
            except ConnectionRefusedError:
                yield Leftover("dead socket", str(path), path.unlink)
            except OSError:
                continue


def _curves(settings: Settings) -> Iterator[Leftover]:
    """Yield curves that are damaged; they are made again from their journal."""
    for job in _jobs(settings):
        for slot in job.spec.slots:
            path = job.paths.curves(slot.rank)
            if is_damaged(path):
                yield Leftover("curves", str(path), partial(set_aside, path))


def mend_all(found: list[Leftover]) -> list[str]:
    """Mend each and return what could not be, as lines for people."""
    failed = []
    for leftover in found:
        try:
            leftover.mend()
        except (OSError, JobError) as refused:
            failed.append(f"{leftover.kind}: {leftover.text}: {refused}")
    return failed
