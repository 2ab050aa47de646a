"""The state journal of a job as its one writer keeps it.

Rules: only the holder of the job's lock writes events.jsonl.  A transition is on disk before anything
is done that follows from it.  The disk being full loses no transition: a reserve is given up for it.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

from nbaas.errors import JobError
from nbaas.jobs.state import History, check, replay
from nbaas.journal import JournalReader, JournalWriter
from nbaas.records import JobPaths, State

RESERVE = 64 << 10  # bytes


class EventLog:
    """Appends events and keeps the history they add up to."""

    def __init__(self, paths: JobPaths) -> None:
        self._paths = paths
        mend(paths)
        reader = JournalReader(paths.events)
        self._next = 0
        self.history: History = replay(self._numbered(reader.read()))
        self._writer = JournalWriter(paths.events)

    def enter(self, state: State, **details: Any) -> None:
        """Make a transition; raises JobError where the table does not hold it."""
        check(self.history.state, state)
        self._append({"state": state.value, **details})

    def note(self, event: str, **details: Any) -> None:
        self._append({"event": event, **details})

    def flag(self, name: str, *, on: bool = True, **details: Any) -> None:
        """Raise or lower a flag such as STALLED; nothing is written where it is so already."""
        if on != (name in self.history.flags):
            self.note("FLAG" if on else "UNFLAG", flag=name, **details)

    def close(self) -> None:
        self._writer.close()

    def _append(self, details: dict[str, Any]) -> None:
        event = {"seq": self._next, "time": time.time(), "mono": time.monotonic(), **details}
        if not self._writer.append(event, sync=True):
            with contextlib.suppress(FileNotFoundError):
                self._paths.reserve.unlink()
            if not self._writer.append(event, sync=True):
                raise JobError(f"{self._paths.events} takes no more: the disk is full")
        self._next += 1
        self.history = replay([event], self.history)

    def _numbered(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self._next = len(records)
        return records


def make_reserve(paths: JobPaths) -> None:
    """Put aside what the last transitions need on a full disk."""
    with contextlib.suppress(OSError):
        paths.reserve.write_bytes(os.urandom(RESERVE))


def mend(paths: JobPaths) -> None:
    """Cut off a line that a dead writer left unfinished; only for the holder of the lock."""
    try:
        with paths.events.open("r+b") as file:
            data = file.read()
            whole = data.rfind(b"\n") + 1
            if whole != len(data):
                file.truncate(whole)
    except FileNotFoundError:
        return
