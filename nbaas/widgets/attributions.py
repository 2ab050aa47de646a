"""Attributions as a figure: bars for a table, heat maps for images, coloured words for tokens.

Rule: orange raised the score, blue lowered it, and every colour and size is set here.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbaas.widgets.figure import DPI, INK, WIDTH

MOST_ROWS = 6  # drawn; the arrays hold all
MOST_BARS = 12
UP, DOWN, FAINT = "#D55E00", "#0072B2", "#666666"
LEGEND = "orange raised the score, blue lowered it"
LETTERS = 88  # in one line of tokens
IMAGE = 2  # dimensions
CHANNELS = 4  # at most, of an image that has them last


@dataclass(frozen=True, slots=True)
class Row:
    """One explained row: its title, the parts, and what was given, both of one shape."""

    title: str
    parts: Any
    given: Any


def kind_of(shape: tuple[int, ...], *, integers: bool) -> str:
    """Return how a row of this shape is drawn: 'image', 'tokens' or 'table'."""
    if len(shape) >= IMAGE:
        return "image"
    return "tokens" if integers else "table"


def attribution_png(title: str, rows: Sequence[Row], labels: Sequence[Sequence[str]]) -> bytes:
    """Return a PNG of the first rows, WIDTH wide on the page.

    `labels` are the names of the columns of a table (one list), or the words of the tokens (a list
    for each row); what is not named has its number.
    """
    shown = list(rows)[:MOST_ROWS]
    integers = np.asarray(shown[0].given).dtype.kind in "iu"
    kind = kind_of(np.shape(shown[0].parts), integers=integers)
    figure, draw = {"image": _image_figure, "tokens": _token_figure, "table": _table_figure}[kind](
        shown
    )
    figure.suptitle(title, fontsize=12, x=0.01, ha="left", color=INK)
    draw(labels)
    figure.supxlabel(LEGEND, fontsize=9, color=FAINT)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _figure(height: float) -> Any:
    # The object interface: pyplot would change the user's backend and current figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (2 * WIDTH / DPI, 2 * height / DPI)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _colors() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("parts", [DOWN, "#ffffff", UP])


def _limit(parts: Any) -> float:
    found = float(np.abs(parts).max()) if np.size(parts) else 0.0
    return found or 1.0


# ---------------------------------------------------------------- images


def _image_figure(rows: list[Row]) -> Any:
    figure = _figure(310)
    axes = figure.subplots(2, max(len(rows), 3), squeeze=False)

    def draw(_labels: Sequence[Sequence[str]]) -> None:
        for column in range(axes.shape[1]):
            for line in range(2):
                axes[line][column].set_axis_off()
            if column < len(rows):
                _draw_image(axes[0][column], axes[1][column], rows[column])

    return figure, draw


def _draw_image(above: Any, below: Any, row: Row) -> None:
    picture = as_picture(row.given)
    above.imshow(picture, cmap="gray_r" if picture.ndim == IMAGE else None)
    above.set_title(row.title, fontsize=9, color=INK)
    parts = as_planes(row.parts).sum(0)
    limit = _limit(parts)
    grey = picture if picture.ndim == IMAGE else picture.mean(-1)
    below.imshow(parts, cmap=_colors(), vmin=-limit, vmax=limit)
    if min(grey.shape) > 1 and grey.min() < grey.max():
        below.contour(grey, levels=[float(grey.mean())], colors=FAINT, linewidths=0.5, alpha=0.6)


def as_picture(given: Any) -> Any:
    """Return (H, W) or (H, W, 3) in [0, 1] of an image in any of the forms of `as_planes`."""
    array = as_planes(given).astype("f8")
    low, high = float(np.nanmin(array)), float(np.nanmax(array))
    array = (array - low) / ((high - low) or 1.0)
    return np.moveaxis(array, 0, -1) if len(array) == 3 else array.mean(0)  # noqa: PLR2004 - RGB


def as_planes(image: Any) -> Any:
    """Return (C, H, W) of an image (H, W), (C, H, W), (H, W, C) as Keras has it, or of more."""
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[-1] <= CHANNELS < array.shape[0]:  # noqa: PLR2004 - H, W, C
        array = np.moveaxis(array, -1, 0)
    return array.reshape(-1, *array.shape[-2:])


# ---------------------------------------------------------------- tables


def _table_figure(rows: list[Row]) -> Any:
    bars = min(MOST_BARS, max(1, np.size(rows[0].parts)))
    columns = 2 if len(rows) == 4 else min(3, len(rows))  # noqa: PLR2004 - two lines of two
    lines = -(-len(rows) // columns)
    figure = _figure(70 + lines * (50 + 17 * bars))
    axes = figure.subplots(lines, columns, squeeze=False)

    def draw(labels: Sequence[Sequence[str]]) -> None:
        names = list(labels[0]) if labels else []
        for place, ax in enumerate(axes.ravel()):
            if place < len(rows):
                _draw_bars(ax, rows[place], names, bars)
            else:
                ax.set_axis_off()

    return figure, draw


def _draw_bars(axes: Any, row: Row, names: list[str], bars: int) -> None:
    parts = np.atleast_1d(np.asarray(row.parts))
    order = np.argsort(-np.abs(parts), kind="stable")[:bars][::-1]
    values = parts[order]
    axes.barh(range(len(order)), values, color=[UP if v > 0 else DOWN for v in values], height=0.7)
    given = np.atleast_1d(np.asarray(row.given))
    labels = [f"{_name(names, int(i))} = {_short(given[i])}" for i in order]
    axes.set_yticks(range(len(order)), labels, fontsize=8, color=INK)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_title(row.title, fontsize=9, loc="left", color=INK)
    axes.tick_params(labelsize=8, color=INK, labelcolor=INK, length=2)
    axes.tick_params(axis="y", length=0)
    axes.set_facecolor("white")
    axes.grid(visible=True, axis="x", alpha=0.3, linewidth=0.5, color=INK)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(INK)


def _name(names: list[str], index: int) -> str:
    name = names[index] if index < len(names) else f"[{index}]"
    return _plain(name if len(name) <= 24 else name[:23] + "…")  # noqa: PLR2004 - letters


def _plain(text: str) -> str:
    """Return text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$").replace("\n", "⏎")


def _short(value: Any) -> str:
    return f"{float(value):.3g}"


# ---------------------------------------------------------------- tokens


def _token_figure(rows: list[Row]) -> Any:
    tokens = [[str(token) for token in np.atleast_1d(row.given)] for row in rows]
    figure = _figure(1)  # sized when the words are known

    def draw(labels: Sequence[Sequence[str]]) -> None:
        words = [[*map(str, labels[i])] if i < len(labels) else tokens[i] for i in range(len(rows))]
        wrapped = [wrap(line) for line in words]
        lines = sum(len({line for line, _ in places}) + 1.4 for places in wrapped)
        height = 60 + 24 * lines
        figure.set_size_inches(2 * WIDTH / DPI, 2 * height / DPI)
        axes = figure.add_subplot()
        axes.set_xlim(0, LETTERS)
        axes.set_ylim(lines, 0)
        axes.set_axis_off()
        top = 0.0
        for row, line, places in zip(rows, words, wrapped, strict=True):
            axes.text(0, top + 0.7, row.title, fontsize=9, color=INK, va="center")
            top = _draw_tokens(axes, row, line, places, top + 1.1)

    return figure, draw


def wrap(words: Sequence[str]) -> list[tuple[int, int]]:
    """Return line and letter at which each word stands."""
    places, line, at = [], 0, 0
    for word in words:
        width = min(len(word), LETTERS - 2) + 2
        if at and at + width > LETTERS:
            line, at = line + 1, 0
        places.append((line, at))
        at += width
    return places


def _draw_tokens(
    axes: Any, row: Row, words: list[str], places: list[tuple[int, int]], top: float
) -> float:
    from matplotlib.patches import Rectangle

    colors, limit = _colors(), _limit(row.parts)
    for word, part, (line, at) in zip(words, np.atleast_1d(row.parts), places, strict=False):
        shown = word[: LETTERS - 2]
        color = colors(0.5 + 0.5 * float(part) / limit)
        place = (at + 0.15, top + line + 0.08)
        axes.add_patch(Rectangle(place, len(shown) + 1.7, 0.84, color=color, linewidth=0))
        dark = sum(color[:3]) < 1.6  # noqa: PLR2004 - of 3: white letters on a dark cell
        axes.text(
            at + 1 + len(shown) / 2, top + line + 0.5, _plain(shown), fontsize=8, family="monospace",
            color="white" if dark else INK, ha="center", va="center",
        )  # fmt: skip
    return top + (places[-1][0] if places else 0) + 1.3
