"""Train and serve PyTorch models from a notebook cell; public names load on first use."""

from __future__ import annotations

from nbaas._version import __version__

__all__ = ["__version__"]
