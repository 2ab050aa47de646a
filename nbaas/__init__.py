"""Train and serve PyTorch models from a notebook cell; public names load on first use."""

from __future__ import annotations

from typing import Any

from nbaas._version import __version__

_TWINS = (
    "attach",
    "deploy",
    "explain",
    "predict",
    "resume",
    "train",
)  # each is a magic as a function
_LOGS = ("histogram", "log")  # called by the code of a cell, in a rank or in the notebook

__all__ = ["__version__", "checkpoint", *_TWINS, *_LOGS]  # noqa: PLE0604 - names, all of them


def __getattr__(name: str) -> Any:
    if name == "checkpoint":  # in a rank, where there is no IPython
        return _face("nbaas.worker.asked").checkpoint
    if name in _TWINS:
        return getattr(_face("nbaas.magics.twins"), name)
    if name in _LOGS:
        return getattr(_face("nbaas.worker.log"), name)
    raise AttributeError(f"module 'nbaas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(ip: Any) -> None:
    """Register the magics: `%load_ext nbaas`."""
    _face("nbaas.magics.extension").load(ip)


def unload_ipython_extension(ip: Any) -> None:
    _face("nbaas.magics.extension").unload(ip)


def _face(module: str) -> Any:
    """Import what this package shows to a notebook or a server, on first use.

    By name: a layer below that imports `nbaas` does not reach IPython or tornado through it.
    """
    from importlib import import_module

    return import_module(module)


def _jupyter_server_extension_points() -> list[dict[str, object]]:
    """Return the server extension."""
    return [{"module": "nbaas.server.app", "app": _face("nbaas.server.app").NbaasExtension}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Return where the built panel lies, for `jupyter labextension develop`."""
    return [{"src": "labextension", "dest": "nbaas"}]
