"""Commands of `!` lines: one process however many ranks there are, its result on all of them.

Rule: rank 0 runs the command, in a session of its own; the others wait for what it gave.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import IO, Any, Protocol, TypeVar

Result = TypeVar("Result")

LOOKING = 0.1  # seconds between two looks whether the cell is asked to stop
LAST_CHANCE = 1.0  # seconds for an interrupted command to end by itself
KILLED_BY = 128  # a shell adds the signal to it


class Ranks(Protocol):
    """What of a session of ranks a command needs."""

    rank: int

    def from_rank_0(self, value: Any) -> Any: ...
    def is_awaited(self) -> bool: ...


class Lines(list[str]):
    """The lines that a command printed; `.l`, `.n` and `.s` as in a notebook: list, text, words."""

    @property
    def l(self) -> list[str]:  # noqa: E743 - IPython's name
        return list(self)

    @property
    def n(self) -> str:
        return "\n".join(self)

    @property
    def s(self) -> str:
        return " ".join(self)


def exit_code(command: str, ranks: Ranks | None) -> int:
    """Run `command` once, its output where prints go, and return its code: -n for a signal n."""
    code = _once(lambda: _run(command, None, ranks), ranks)
    return KILLED_BY - code if code > KILLED_BY else code


def output(command: str, ranks: Ranks | None) -> Lines:
    """Run `command` once and return the lines it printed, errors among them as in a notebook."""

    def read() -> str:
        with tempfile.TemporaryFile() as file:
            _run(command, file, ranks)
            file.seek(0)
            return file.read().decode(errors="replace")

    return Lines(_once(read, ranks).splitlines())


def _once(run: Callable[[], Result], ranks: Ranks | None) -> Result:
    if ranks is None:
        return run()
    value: Result = ranks.from_rank_0(run() if ranks.rank == 0 else None)
    return value


def _run(command: str, file: IO[bytes] | None, ranks: Ranks | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    errors = None if file is None else subprocess.STDOUT
    with subprocess.Popen(  # noqa: S602 - a `!` line of the user's
        command, shell=True, stdout=file, stderr=errors, start_new_session=True
    ) as process:
        try:
            while (code := _waited(process, LOOKING)) is None:
                # Ranks that are to stop wait for this one's result: an interrupted one will do.
                if ranks is not None and ranks.is_awaited():
                    _end(process)
            return code
        except BaseException:
            _end(process)
            raise


def _waited(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a command and all that it has started; kill what does not end of that."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        if _waited(process, LAST_CHANCE) is not None:
            return
