"""What becomes of a job whose supervisor is dead: whoever holds its lock says LOST, once."""

from __future__ import annotations

import os
import socket

from nbaas.jobs.events import EventLog
from nbaas.jobs.state import History, replay
from nbaas.journal import JournalReader
from nbaas.launchers.locks import take_lock
from nbaas.launchers.processes import kill_tagged
from nbaas.records import JobPaths, State


def history_of(paths: JobPaths) -> History:
    """Return what the journal of a job says, whether or not anybody answers for it."""
    return replay(JournalReader(paths.events).read())


def reconciled(paths: JobPaths, history: History) -> History:
    """Return the history that holds now: LOST where the job is not over and its lock is free.

    Then every process that the job left on this host is ended first.  A job of another host that
    shares the file system is never judged.
    """
    if history.state is None or history.state.final or _is_elsewhere(history):
        return history
    lock = take_lock(paths.lock)
    if lock is None:
        return history
    try:
        return _declare_lost(paths)
    finally:
        os.close(lock)


def _declare_lost(paths: JobPaths) -> History:
    events = EventLog(paths)
    try:
        # Read again under the lock: the supervisor's last words, or another reader's verdict.
        if events.history.state is None or events.history.state.final:
            return events.history
        kill_tagged(paths.root.name)
        before = events.history.state
        reason = (
            "it never started: its launcher died"
            if before is State.CREATED
            else "its supervisor was killed"
        )
        events.enter(State.LOST, reason=reason)
        return events.history
    finally:
        events.close()


def _is_elsewhere(history: History) -> bool:
    return bool(history.host) and history.host != socket.gethostname()
