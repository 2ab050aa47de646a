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
from nbaas.widgets.failure import PLAIN, RED, cause, failure_lines


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
    first = cause(failures)
    error: RankFailedError = _class_named(first.kind, namespace)(first.message)
    _show_as(error, failure_lines(failures, world_size))
    return error


def as_text(kind: str, message: str, lines: list[str]) -> CaptureError:
    """Return an error of ours called `kind` that a cell shows as `lines`."""
    error: CaptureError = type(kind, (CaptureError,), {"__module__": __name__})(message)
    _show_as(error, lines)
    return error


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
