"""The matplotlib backend of ranks: draws without a screen, and `plt.show` goes to the notebook.

Chosen by `MPLBACKEND=module://nbaas.bundle.figures`.
"""

from __future__ import annotations

from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg as FigureCanvas
from matplotlib.backends.backend_agg import new_figure_manager  # type: ignore[attr-defined]

from nbaas.bundle.displays import show_figures


def show(*_: Any, **__: Any) -> None:
    show_figures()


__all__ = ["FigureCanvas", "new_figure_manager", "show"]
