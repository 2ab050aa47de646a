"""The tree of errors: what is wrong, with the value; then what to do.

Rule: `args` rebuild the error, so that each survives pickle and JSON.
"""

from __future__ import annotations

from typing import Any


class NbaasError(Exception):
    """A mistake or a loss that the user can act on; shown as one line, never with a stack of ours."""

    http_status = 500

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def to_json(self) -> dict[str, Any]:
        return {"kind": type(self).__name__, "error": self.message, "hint": self.hint}


class UsageError(NbaasError):
    """A flag, a name or a line that nbaas does not understand."""

    http_status = 400


class PlacementError(NbaasError):
    """More ranks or other devices asked for than there are."""

    http_status = 409


class HostError(NbaasError):
    """Another machine cannot be reached, or lacks what its ranks need; the message names it."""

    http_status = 424


class CaptureError(NbaasError):
    """A name of the cell is missing or cannot travel to the ranks."""

    http_status = 400


class BundleError(NbaasError):
    """A bundle or a version directory is incomplete or damaged."""

    http_status = 422


class EngineError(NbaasError):
    """A collective or the rendezvous failed."""


class EngineMissingError(EngineError):
    """The engine is not installed for this torch."""

    http_status = 424


class SemanticsError(NbaasError):
    """The ranks computed something other than one device would have."""


class JobError(NbaasError):
    """A job could not do what was asked of it."""

    http_status = 409


class JobRunningError(JobError):
    """A job of this name is running; the notebook may attach to it."""


class JobNotFoundError(JobError):
    http_status = 404


class RankFailedError(JobError):
    """A rank raised, was killed or left; the user's own error is in the job's failure record."""


class DeployError(NbaasError):
    """A version could not be made or did not become ready."""

    http_status = 422


class EndpointError(NbaasError):
    http_status = 503


class EndpointNotFoundError(EndpointError):
    http_status = 404


class InputError(EndpointError):
    """A request does not fit the endpoint's signature."""

    http_status = 400


class MissingPackageError(EndpointError):
    """A package that this request needs is not installed where the model runs."""

    http_status = 501


class UnauthorizedError(EndpointError):
    http_status = 401


def error_named(kind: str, message: str, hint: str = "") -> NbaasError:
    """Return the error of class `kind` (its name), a plain NbaasError where there is none."""
    found = {cls.__name__: cls for cls in _tree(NbaasError)}.get(kind, NbaasError)
    return found(message, hint)


def _tree(root: type[NbaasError]) -> list[type[NbaasError]]:
    return [root, *(cls for child in root.__subclasses__() for cls in _tree(child))]
