"""Errors as a cell shows them: ours as one clear line, the user's own with the cell's lines.

Rule: the cell always fails, so that Run All, nbconvert and CI stop; IPython asks an exception for
`_render_traceback_`, which is how no frame of ours appears.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from nbaas.errors import CaptureError, NbaasError, RankFailedError
from nbaas.records import RankFailure

WITHOUT_WORDS = frozenset({"Killed", "Exited"})  # a rank that could not say why
LAST_LINES = 20
RED, BOLD, PLAIN = "\x1b[31m", "\x1b[1m", "\x1b[0m"


@contextmanager
def shown_as_one_line() -> Iterator[None]:
    """An NbaasError that leaves this block is shown as its message and hint, without a stack."""
    try:
        yield
    except NbaasError as error:
        if not hasattr(error, "_render_traceback_"):
            _show_as(error, [one_line(error)])
        raise


def one_line(error: NbaasError) -> str:
    """Return 'PlacementError: message (hint)', the line a cell shows."""
    return f"{RED}{type(error).__name__}{PLAIN}: {' '.join(str(error).split())}"


def failure_error(
    failures: Sequence[RankFailure], world_size: int, namespace: Mapping[str, Any]
) -> RankFailedError:
    """Return the user's own error as an exception to raise in the cell.

    Its class has the name of the user's and derives from it where the notebook knows it, so that
    `except ValueError` in the notebook catches it.  `failures` are those of the ranks, the cause
    first found among those that are not secondary.
    """
    first = next((failure for failure in failures if not failure.secondary), failures[0])
    error: RankFailedError = _class_named(first.kind, namespace)(first.message)
    _show_as(error, failure_lines(first, failures, world_size))
    return error


def as_text(kind: str, message: str, lines: list[str]) -> CaptureError:
    """Return an error of ours called `kind` that a cell shows as `lines`."""
    error: CaptureError = type(kind, (CaptureError,), {"__module__": __name__})(message)
    _show_as(error, lines)
    return error


def failure_lines(
    first: RankFailure, failures: Sequence[RankFailure], world_size: int
) -> list[str]:
    """Return what the cell shows: which rank, the stack of the user's code, the others folded."""
    where = f"rank {first.rank} of {world_size}" if world_size > 1 else "rank 0"
    same = [f.rank for f in failures if f is not first and f.kind == first.kind and not f.secondary]
    also = f"; the same on {ranks_text(same)}" if same else ""
    if first.kind in WITHOUT_WORDS:
        lines = [f"{BOLD}{where}{PLAIN} {RED}{first.message}{PLAIN}{also}"]
        lines += ["its last lines:", *first.traceback.rstrip().splitlines()[-LAST_LINES:]]
    else:
        lines = [f"{BOLD}{where}{PLAIN} raised {RED}{first.kind}{PLAIN}{also}"]
        lines += first.traceback.rstrip().splitlines()
    others = sorted(set(range(world_size)) - {first.rank, *same})
    if others:
        lines.append(f"{ranks_text(others)} ended because of it")
    return lines


def ranks_text(ranks: Sequence[int]) -> str:
    """Return 'rank 1', 'ranks 1-3' or 'ranks 0, 2-3'."""
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    text = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
    return f"rank{'s' if len(ranks) > 1 else ''} {text}"


def _class_named(kind: str, namespace: Mapping[str, Any]) -> Callable[[str], RankFailedError]:
    found = namespace.get(kind.rpartition(".")[2], getattr(builtins, kind, None))
    bases: tuple[type, ...] = (RankFailedError,)
    if isinstance(found, type) and issubclass(found, Exception):
        bases = (RankFailedError, found)
    body = {"__init__": NbaasError.__init__, "__str__": NbaasError.__str__, "__module__": __name__}
    try:
        return type(kind.rpartition(".")[2], bases, body)
    except TypeError:  # the user's class cannot be combined with ours: its name is kept
        return type(kind.rpartition(".")[2], (RankFailedError,), body)


def _show_as(error: NbaasError, lines: list[str]) -> None:
    error._render_traceback_ = lambda: lines  # type: ignore[attr-defined]
