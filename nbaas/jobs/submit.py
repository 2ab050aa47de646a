"""From a specification to a detached supervisor; every step may be the last one of this process.

Rules: a job directory appears whole, by a rename, with its lock held; the lock goes to the supervisor
with its file descriptor, so it is never free before the supervisor is dead.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from nbaas.config import Settings, own_folder
from nbaas.engines.base import engine_named
from nbaas.errors import JobError, JobRunningError
from nbaas.jobs.events import EventLog
from nbaas.jobs.job import Job
from nbaas.jobs.locks import name_lock, read_owner, write_owner
from nbaas.jobs.names import checked_name, new_id, new_name
from nbaas.launchers import zygote
from nbaas.launchers.environment import allowed_environment
from nbaas.launchers.facts import versions_here
from nbaas.launchers.locks import take_lock
from nbaas.records import Host, JobPaths, JobSpec, Slot, State, to_json

SUPERVISE = Path(__file__).with_name("supervise.py")
DETACH_TIMEOUT = 30.0  # seconds for one interpreter to start and fork
DEFAULT_UMASK = 0o022
KEPT = (
    *("PATH", "HOME", "LANG", "TMPDIR", "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH"),
    *("USER", "LOGNAME", "SSH_AUTH_SOCK"),  # for ssh to other hosts
)


def new_spec(  # noqa: PLR0913 - a keyword a field of the record
    settings: Settings,
    slots: Sequence[Slot],
    *,
    name: str = "",
    engine: str = "",
    seed: int | None = None,
    batch: str = "global",
    origin: str = "",
    extra_env: Collection[str] = (),
    hosts: Sequence[Host] = (),
) -> JobSpec:
    """Return the record of a new job; raises UsageError for a name that is none.

    Ranks inherit what is allowed of this process's environment, and the variables in `extra_env`.
    `hosts` are the other machines among those of `slots`.
    """
    now = time.time()
    return JobSpec(
        id=new_id(now),
        name=checked_name(name) if name else new_name(),
        engine=engine or settings.engine,
        slots=tuple(slots),
        created=now,
        seed=seed,
        batch=batch,
        python=sys.executable,
        cwd=str(Path.cwd()),
        origin=origin,
        env=allowed_environment(os.environ, extra_env),
        start_timeout=settings.start_timeout,
        stop_grace=settings.stop_grace,
        stall_timeout=settings.stall_timeout,
        zygote=str(zygote.address()) if settings.warm else "",
        queue=settings.queue,
        umask=_umask(),
        hosts=tuple(hosts),
        versions=versions_here() if hosts else {},
        ssh_config=settings.ssh_config,
        host_timeout=settings.host_timeout,
    )


def submit(settings: Settings, spec: JobSpec, write_bundle: Callable[[Path], object]) -> Job:
    """Return the job once its supervisor runs, which then starts the ranks.

    `write_bundle` is called with the path of the bundle's directory, which it makes.
    Raises: JobRunningError: a job of this name is running.  EngineMissingError.
    """
    checked_name(spec.name)
    engine_named(spec.engine).check()
    with _name_held(settings, spec) as name_lock:
        root = settings.jobs / spec.id
        with _made_whole(root) as draft:
            paths = JobPaths(draft)
            _write_durably(paths.spec, json.dumps(to_json(spec)))
            write_bundle(paths.bundle)
            lock = take_lock(paths.lock)
            if lock is None:
                raise JobError(f"{draft} is in use", hint="ids are unique: report this")
            events = EventLog(paths)
            events.enter(State.CREATED, by=os.getpid())
            events.close()
        try:
            start_supervisor(JobPaths(root), (lock, name_lock))
        finally:
            # Only our copies: the supervisor's keep the locks.
            os.close(lock)
    return Job(spec, JobPaths(root))


def start_supervisor(paths: JobPaths, locks: Sequence[int]) -> None:
    """Start the detached supervisor of a job, which inherits the locks."""
    log = os.open(
        paths.supervisor_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    command = [sys.executable, "-I", "-S", str(SUPERVISE), str(paths.root), *map(str, locks)]
    try:
        first = subprocess.Popen(
            command,
            env={name: os.environ[name] for name in KEPT if name in os.environ},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=tuple(locks),
            # The kernel's interrupt goes to its whole process group; a job must not hear it.
            start_new_session=True,
        )
    finally:
        os.close(log)
    if first.wait(DETACH_TIMEOUT):
        reason = paths.supervisor_log.read_text()[-500:].strip()
        raise JobError(f"the supervisor did not start: {reason}", hint="nbaas doctor")


@contextlib.contextmanager
def _name_held(settings: Settings, spec: JobSpec) -> Iterator[int]:
    """Hold the lock of the job's name in this block; the supervisor keeps its own copy."""
    path = name_lock(settings, spec.name)
    fd = take_lock(path)
    if fd is None:
        raise JobRunningError(
            f"a job called {spec.name!r} is running ({read_owner(path)})",
            hint=f"%attach {spec.name} shows it, %stop {spec.name} ends it",
        )
    try:
        write_owner(fd, spec.id)
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _made_whole(root: Path) -> Iterator[Path]:
    """Give a draft directory that becomes `root` at the end of the block, or nothing at all."""
    own_folder(root.parent)
    draft = root.with_name(f".{root.name}.draft")
    draft.mkdir(mode=0o700)
    try:
        yield draft
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    draft.rename(root)
    _sync_folder(root.parent)


def _umask() -> int:
    """Return this process's umask without setting it, which other threads would feel."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("Umask:")[2].split()[0], 8)
    except (OSError, ValueError, IndexError):
        return DEFAULT_UMASK


def _write_durably(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
