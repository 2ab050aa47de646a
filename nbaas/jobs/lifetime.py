"""The supervisor's process, from the locks it was passed to its last line of log."""

from __future__ import annotations

import json
import os
import signal
import traceback
from pathlib import Path
from types import FrameType

from nbaas.engines.base import engine_named
from nbaas.jobs.events import make_reserve
from nbaas.jobs.locks import write_owner
from nbaas.jobs.supervisor import Supervisor
from nbaas.launchers.forked import ZygoteLauncher
from nbaas.launchers.local import Launcher
from nbaas.launchers.processes import become_subreaper, boot_id, kill_tagged
from nbaas.records import JobPaths, JobSpec, from_json


def answer_for(root: str, locks: list[int]) -> None:
    """Run the job in `root` to its end; the locks are held until this process is gone."""
    for fd in locks:
        # A rank that inherited a lock would keep it when we are dead.
        os.set_inheritable(fd, False)  # noqa: FBT003 - positional only
    _take_defaults()
    paths = JobPaths(Path(root))
    spec = from_json(JobSpec, json.loads(paths.spec.read_text()))
    write_owner(locks[0], f"{os.getpid()} {boot_id()}")
    become_subreaper()
    make_reserve(paths)
    try:
        Supervisor(
            spec,
            paths,
            engine=engine_named(spec.engine),
            launcher=launcher_of(spec, paths),
            release_name=lambda: os.close(locks[1]),
        ).run()
    except BaseException:
        # Whoever looks next finds the lock free and the job LOST; nothing may outlive it.
        traceback.print_exc()
        kill_tagged(spec.id)
        raise


def launcher_of(spec: JobSpec, paths: JobPaths) -> Launcher:
    """Return what starts the ranks of a job: on this host, or on several."""
    here = ZygoteLauncher(spec.zygote)
    if not spec.hosts:
        return here
    from nbaas.launchers.remote import RemoteLauncher

    return RemoteLauncher(spec, paths, here)


def _take_defaults() -> None:
    """Undo what a kernel has set for itself and its children."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGHUP, signal.SIGINT):
        # A handler that does nothing, not SIG_IGN: ranks would inherit that.
        signal.signal(number, _pass)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)


def _pass(number: int, frame: FrameType | None) -> None:
    pass
