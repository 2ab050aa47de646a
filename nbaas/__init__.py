"""Train and serve PyTorch models from a notebook cell; public names load on first use."""

from __future__ import annotations

from nbaas._version import __version__

__all__ = ["__version__"]


def _jupyter_server_extension_points() -> list[dict[str, object]]:
    """Return the server extension.

    Imported by name: a layer below that imports `nbaas` does not reach tornado through it.
    """
    from importlib import import_module

    return [{"module": "nbaas.server.app", "app": import_module("nbaas.server.app").NbaasExtension}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Return where the built panel lies, for `jupyter labextension develop`."""
    return [{"src": "labextension", "dest": "nbaas"}]
