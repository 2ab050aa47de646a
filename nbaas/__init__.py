"""Train and serve PyTorch models from a notebook cell; public names load on first use."""

from __future__ import annotations

from nbaas._version import __version__

__all__ = ["__version__"]


def _jupyter_server_extension_points() -> list[dict[str, object]]:
    """Return the server extension; tornado is imported here, by the one who asks for it."""
    from nbaas.server.app import NbaasExtension

    return [{"module": "nbaas.server.app", "app": NbaasExtension}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Return where the built panel lies, for `jupyter labextension develop`."""
    return [{"src": "labextension", "dest": "nbaas"}]
