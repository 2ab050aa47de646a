"""The matplotlib backend of a rank: `plt.show()` sends every open figure to the notebook."""

from __future__ import annotations

from typing import Any

from matplotlib import pyplot as plt
from matplotlib._pylab_helpers import Gcf
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nbaas.worker.displays import display


def show(*args: Any, **options: Any) -> None:  # noqa: ARG001 - `block` has no meaning here
    """Show the open figures and close them, as a notebook does."""
    for manager in Gcf.get_all_fig_managers():
        display(manager.canvas.figure)
    plt.close("all")


class FigureManager(FigureManagerBase):
    @classmethod
    def pyplot_show(cls, *args: Any, **options: Any) -> None:
        show(*args, **options)


class FigureCanvas(FigureCanvasAgg):
    manager_class = FigureManager
