"""Which rank is at fault when a gang has ended.  Pure, but for the files it is told to read."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nbaas.records import JobPaths, JobSpec, RankFailure, from_json, to_json

LOG_LINES = 50
TAIL_BYTES = 32 << 10
MAX_TRACEBACK = 24 << 10  # bytes of text; an event is one line below 64 KiB
EXIT_STOPPED = 75


@dataclass(frozen=True, slots=True)
class Exit:
    """How a rank ended: `code` is minus the signal's number where one ended it."""

    rank: int
    code: int
    order: int  # 0 for the rank that ended first
    ours: bool = False  # we had sent SIGKILL by then

    @property
    def failed(self) -> bool:
        return self.code not in (0, EXIT_STOPPED) and not self.ours


def culprit(exits: Sequence[Exit], failures: dict[int, RankFailure]) -> Exit | None:
    """Return the exit that ended the gang: the first that is not a consequence of another.

    Ranks that raised the same are one failure; the lowest of them speaks.
    """
    failed = sorted((end for end in exits if end.failed), key=lambda end: end.order)
    if not failed:
        return None
    own = [end for end in failed if not _is_secondary(end, failures)] or failed
    first = failures.get(own[0].rank)
    if first is None:
        return own[0]
    alike = [end for end in own if _same(failures.get(end.rank), first)]
    return min(alike, key=lambda end: end.rank)


def _is_secondary(end: Exit, failures: dict[int, RankFailure]) -> bool:
    failure = failures.get(end.rank)
    return failure is not None and failure.secondary


def _same(failure: RankFailure | None, other: RankFailure) -> bool:
    return failure is not None and (failure.kind, failure.message) == (other.kind, other.message)


def read_failures(paths: JobPaths, ranks: Sequence[int]) -> dict[int, RankFailure]:
    """Return the failure that each of `ranks` has put on file."""
    found = {}
    for rank in ranks:
        with contextlib.suppress(OSError, ValueError, TypeError):
            found[rank] = from_json(RankFailure, json.loads(paths.failure(rank).read_text()))
    return found


def failure_of(end: Exit, failures: dict[int, RankFailure], log_tail: str) -> RankFailure:
    """Return the failure to show for `end`; a rank that could say nothing is described."""
    failure = failures.get(end.rank)
    if failure is None:
        kind, message = describe_exit(end.code)
        failure = RankFailure(end.rank, kind, message, log_tail)
    text = failure.traceback[-MAX_TRACEBACK:]
    return RankFailure(failure.rank, failure.kind, failure.message[:2000], text, failure.secondary)


def accusation(blamed: Exit, spec: JobSpec, paths: JobPaths) -> dict[str, Any]:
    """Return reason and failure of a FAILED event: which rank, where, and what it said."""
    failures = read_failures(paths, [blamed.rank])
    failure = failure_of(blamed, failures, log_tail(paths, blamed.rank))
    host = spec.slots[blamed.rank].host
    what = failure.message.splitlines()[0] if failure.message else describe_exit(blamed.code)[1]
    said = what if failure.kind in ("Exited", "Killed") else f"{failure.kind}: {what}"
    return {"reason": f"rank {blamed.rank} on {host}: {said}", "failure": to_json(failure)}


def describe_exit(code: int) -> tuple[str, str]:
    """Return kind and sentence for an exit code without a failure on file."""
    if code >= 0:
        return "Exited", f"left with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    causes = {
        "SIGKILL": "killed (SIGKILL): out of memory, or by someone",
        "SIGSEGV": "crashed (SIGSEGV): its log has the stack",
        "SIGBUS": "crashed (SIGBUS): often /dev/shm is full",
        "SIGABRT": "aborted (SIGABRT): its log has the reason",
        "SIGTERM": "ended by SIGTERM",
    }
    return "Killed", causes.get(name, f"ended by {name}")


def log_tail(paths: JobPaths, rank: int, lines: int = LOG_LINES) -> str:
    """Return the last lines of a rank's log, '' where there is none."""
    try:
        with paths.log(rank).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
