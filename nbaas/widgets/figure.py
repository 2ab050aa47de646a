"""What stays in the saved notebook without a kernel: a figure of the curves, one line of text.

Rule: every colour and size is set here; the user's rcParams are neither read for them nor changed.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbaas.widgets.curves import Curve, Curves

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # as in chart.js
LINES = ("-", "--", ":", "-.")  # of what one job measures, where a colour is a job
DPI = 144  # twice what a notebook shows: crisp on a dense screen
MAX_BYTES = 100_000
MAX_CHARTS = 2
WIDTH, HEIGHT = 720, 230  # pixels of the page
DOTS_BELOW = 60  # points of a curve, which are then marked one by one
INK = "#333333"


def mime_bundle(title: str, summary: str, curves: Curves) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return data and metadata of the output a finished run leaves; empty text without a curve."""
    charts = _charts(curves)
    if not charts:
        return {"text/plain": ""}, {}
    image = figure_png(title, charts)
    return {"image/png": image, "text/plain": summary}, {
        "image/png": {"width": WIDTH, "alt": summary}
    }


def _charts(curves: Curves) -> dict[str, list[Curve]]:
    """Return the first groups that say something: a curve that never changes does not."""
    varied = {
        group: [curve for curve in members if len(set(curve.values)) > 1 or group == "loss"]
        for group, members in curves.groups().items()
    }
    return dict([(group, members) for group, members in varied.items() if members][:MAX_CHARTS])


def figure_png(title: str, charts: dict[str, list[Curve]]) -> bytes:
    """Return a PNG of at most 100 kB, WIDTH by HEIGHT at DPI / 2: one chart a group of curves."""
    images = (_drawn(title, charts, points) for points in (1000, 400, 150))
    return next((image for image in images if len(image) <= MAX_BYTES), b"")


def _drawn(title: str, charts: dict[str, list[Curve]], points: int) -> bytes:
    # The object interface: pyplot would change the user's backend and current figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (2 * WIDTH / DPI, 2 * HEIGHT / DPI)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12, x=0.01, ha="left", color=INK)
    for axes, (group, curves) in zip(
        figure.subplots(1, len(charts), squeeze=False)[0], charts.items(), strict=True
    ):
        _draw_group(axes, group, curves, points)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_group(axes: Any, group: str, curves: Sequence[Curve], points: int) -> None:
    drawn: Counter[int | None] = Counter()  # curves of each job that is compared
    for index, curve in enumerate(curves):
        steps, values = curve.points(limit=points)
        color = COLORS[(index if curve.job is None else curve.job) % len(COLORS)]
        line = LINES[drawn[curve.job] % len(LINES)] if curve.job is not None else "-"
        drawn[curve.job] += 1
        dots = "." if len(steps) < DOTS_BELOW else ""
        axes.plot(steps, values, color=color, ls=line, linewidth=1, marker=dots, label=curve.name)
        strange = steps[~np.isfinite(values)]
        if len(strange):
            at_top = axes.get_xaxis_transform()
            axes.plot(strange, np.full(len(strange), 0.97), "x", color=color, transform=at_top)
    axes.set_facecolor("white")
    axes.set_title(group, fontsize=11, loc="left", color=INK)
    axes.set_xlabel("step", fontsize=10, color=INK)
    axes.tick_params(labelsize=10, color=INK, labelcolor=INK)
    axes.grid(visible=True, alpha=0.3, linewidth=0.5, color=INK)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1 or curves[0].name != group:
        axes.legend(fontsize=10, frameon=False, labelcolor=INK)
