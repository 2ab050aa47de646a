"""Pictures and histograms that a cell logs: made small at once, kept as files beside the metrics.

Rule: however much a cell logs, MOST_ITEMS items and MOST_BYTES bytes are kept; what is more is counted.
"""

from __future__ import annotations

import io
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbaas.errors import UsageError
from nbaas.journal import JournalWriter

FEWEST_BINS, BINS = 8, 64
MOST_ELEMENTS = 1 << 20  # of a tensor that are counted; more are taken at equal distances
LONGEST_SIDE = 1024  # pixels
MOST_ITEMS = 5_000
MOST_BYTES = 256 << 20
COLOURS = (1, 3, 4)  # channels that an image may have


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as PNG."""

    png: bytes


@dataclass(frozen=True, slots=True)
class Histogram:
    """How values are distributed: up to BINS counts between `low` and `high`, and what is no number."""

    low: float
    high: float
    counts: tuple[int, ...]
    strange: int = 0  # NaN and infinities


def histogram_of(array: Any) -> Histogram:
    """Return the distribution of an array of any shape."""
    import numpy as np

    flat = np.asarray(array).reshape(-1)
    flat = flat[:: -(-flat.size // MOST_ELEMENTS)] if flat.size > MOST_ELEMENTS else flat
    flat = flat.astype(np.float64)
    finite = flat[np.isfinite(flat)]
    if not finite.size:
        return Histogram(0.0, 0.0, (0,) * FEWEST_BINS, int(flat.size))
    # Of a few elements many bins would hold one each.
    bins = min(BINS, max(FEWEST_BINS, math.isqrt(finite.size)))
    counts, edges = np.histogram(finite, bins=bins)
    spread = (float(edges[0]), float(edges[-1]))
    return Histogram(*spread, tuple(counts.tolist()), int(flat.size - finite.size))


def of_figure(figure: Any) -> Picture:
    """Return a matplotlib figure as it stands; it stays open."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return Picture(buffer.getvalue())


def of_pil(image: Any) -> Picture:
    """Return a PIL image, its longer side at most LONGEST_SIDE pixels."""
    if image.mode not in ("L", "RGB", "RGBA", "1", "P"):
        image = image.convert("RGB")
    if max(image.size) > LONGEST_SIDE:
        image = image.copy()
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return Picture(buffer.getvalue())


def of_array(array: Any, name: str) -> Picture:
    """Return an array of pixels: (H, W), (H, W, C) or (C, H, W) with C of 1, 3 or 4.

    Whole numbers are 0 to 255, floats 0 to 1; floats outside of that are spread over the range.
    """
    import numpy as np
    from PIL import Image

    pixels = np.asarray(array)
    # (1, 3, H, W): a batch of one image.
    while pixels.ndim > 3 and pixels.shape[0] == 1:  # noqa: PLR2004 - height, width, colours
        pixels = pixels[0]
    if pixels.ndim == 3 and pixels.shape[0] in COLOURS and pixels.shape[2] not in COLOURS:  # noqa: PLR2004
        pixels = pixels.transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
    if pixels.ndim == 3 and pixels.shape[2] == 1:  # noqa: PLR2004
        pixels = pixels[:, :, 0]
    flat = pixels.ndim == 2  # noqa: PLR2004
    if not (flat or (pixels.ndim == 3 and pixels.shape[2] in COLOURS)) or not pixels.size:  # noqa: PLR2004
        raise UsageError(
            f"{name}: shape {np.asarray(array).shape} is neither one number nor an image",
            hint=f"nbaas.log({name}=nbaas.histogram(x)), or a mean of it",
        )
    return of_pil(Image.fromarray(_bytes(pixels)))


def _bytes(pixels: Any) -> Any:
    """Return pixels as uint8 of the same shape."""
    import numpy as np

    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if pixels.dtype.kind in "iu":
        return np.clip(pixels, 0, 255).astype(np.uint8)
    values = np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=1.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        values = (values - low) / max(high - low, 1e-12)
    return (values * 255).round().astype(np.uint8)


class PictureWriter:
    """Keeps pictures as files in `folder` and says in `folder`.jsonl what they are."""

    def __init__(self, folder: Path) -> None:
        self.left_out = 0
        self._folder = folder
        self._journal: JournalWriter | None = None  # opened by the first
        self._items = 0
        self._bytes = 0

    def add(self, step: int, name: str, entry: Picture | Histogram) -> None:
        """Keep one; what is too much, or what the disk refuses, is counted and told once."""
        if (
            self._items >= MOST_ITEMS
            or self._bytes >= MOST_BYTES
            or not self._kept(step, name, entry)
        ):
            self.left_out += 1
            if self.left_out == 1:
                print(f"nbaas: {name}: pictures from here on are not kept", file=sys.stderr)  # noqa: T201 - into the rank's log

    def _kept(self, step: int, name: str, entry: Picture | Histogram) -> bool:
        record: dict[str, Any] = {"time": time.time(), "step": step, "name": name[:200]}
        try:
            if self._journal is None:
                self._open()
            if isinstance(entry, Picture):
                record["file"] = f"{self._items}.png"
                (self._folder / record["file"]).write_bytes(entry.png)
                self._bytes += len(entry.png)
            else:
                record |= {"low": entry.low, "high": entry.high, "counts": entry.counts}
                record["strange"] = entry.strange
        except OSError:
            return False
        self._items += 1
        return self._journal is not None and self._journal.append(record)

    def _open(self) -> None:
        journal = self._folder.with_suffix(".jsonl")
        self._folder.mkdir(parents=True, exist_ok=True)
        # An earlier start of the same job may have kept some.
        self._items = journal.read_bytes().count(b"\n") if journal.exists() else 0
        self._bytes = sum(file.stat().st_size for file in self._folder.iterdir())
        self._journal = JournalWriter(journal)

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()
