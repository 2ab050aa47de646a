"""The live panel in the cell: an anywidget whose front end lies beside this file, without a CDN.

Rule: at most UPDATES_PER_SECOND updates a second however fast training goes; curves travel as
binary appends and are sent anew, decimated, when a view opens, zooms or holds too many points.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from nbaas.widgets.curves import MOST_CURVES, POINTS_DRAWN, Curve, Curves, Points, packed

UPDATES_PER_SECOND = 10
KEPT_INTERVAL = 2.0  # seconds between two of the views that a page finds when it is loaded anew
POINTS_APPENDED = POINTS_DRAWN // 4  # of one curve in one update
POINTS_HELD = 4 * POINTS_DRAWN  # of one curve in a front end, until it is decimated again
FRONT = Path(__file__).parent / "front"
_IMPORT = re.compile(r'^import .* from "\./\w+\.js";\n', re.MULTILINE)

Ask = Callable[[dict[str, Any]], None]


@cache
def front_end(*names: str) -> str:
    """Return files of the front end as one module: each is placed before those that import it."""
    return "\n".join(_IMPORT.sub("", (FRONT / name).read_text()) for name in names)


class Panel(anywidget.AnyWidget):
    """One view of a run; `on_ask` hears what its buttons ask: stop, kill, checkpoint, log.

    `view` is everything small, as panel.js draws it; curves travel as messages, and the view with
    them: one message an update.
    """

    _esm = front_end("uplot.js", "chart.js", "gallery.js", "panel.js", "widget.js")
    _css = front_end("uplot.css", "panel.css")
    view = traitlets.Dict().tag(sync=True)

    def __init__(self, on_ask: Ask | None = None) -> None:
        super().__init__()
        self.seen = threading.Event()  # a front end has drawn it
        self._on_ask = on_ask
        self._curves = Curves()
        self._sent: dict[str, int] = {}  # points of a curve that were looked at for sending
        self._held: dict[str, int] = {}  # points of a curve that front ends hold
        self._rewound = 0  # times that curves had gone back when they were sent
        self._range: tuple[float, float] | None = None
        # Views ask from the thread of a subshell while the loop appends from another.
        self._lock = threading.Lock()
        self._next = 0.0
        self._kept = 0.0  # when the widget's state is due
        self._now: dict[str, Any] = {}  # the newest view
        self.on_msg(self._heard)
        _hear_while_the_cell_runs(self)

    def show(self, view: dict[str, Any], curves: Curves, *, last: bool = False) -> bool:
        """Bring the front end up to date; False when that was done less than 0.1 s ago.

        `last` is sent whatever the time.
        """
        now = time.monotonic()
        if not last and now < self._next:
            return False
        self._next = now + 1 / UPDATES_PER_SECOND
        with self._lock:
            self._curves = curves
            self._now = view
            if not self._append() or last or now >= self._kept:
                self._kept = now + KEPT_INTERVAL
                self.view = view
        return True

    def tell(self, message: dict[str, Any], *buffers: bytes) -> None:
        """Send a small message to the views, such as the log of a rank or a picture."""
        self.send(message, list(buffers))

    def _append(self) -> bool:
        """Send what is new of the curves, and the view with it; False if nothing is."""
        rewound = sum(curve.rewound for curve in self._curves)
        if rewound != self._rewound:
            self._rewound = rewound
            self._replace()
            return True
        drawn = islice(self._curves, MOST_CURVES)
        fresh = [curve for curve in drawn if len(curve.values) > self._sent.get(curve.name, 0)]
        if any(self._held.get(curve.name, 0) > POINTS_HELD for curve in fresh):
            self._replace()
        elif fresh:
            points = [
                curve.points(self._sent.get(curve.name, 0), POINTS_APPENDED) for curve in fresh
            ]
            self._send_curves(fresh, points, reset=False)
        return bool(fresh)

    def _replace(self) -> None:
        self._held.clear()
        curves = list(islice(self._curves, MOST_CURVES))
        points = [curve.points(between=self._range) for curve in curves]
        self._send_curves(curves, points, reset=True)

    def _send_curves(self, curves: list[Curve], points: list[Points], *, reset: bool) -> None:
        for curve, (steps, _) in zip(curves, points, strict=True):
            self._sent[curve.name] = len(curve.values)
            self._held[curve.name] = self._held.get(curve.name, 0) + len(steps)
        named = [{"name": curve.name, "group": curve.group} for curve in curves]
        message = {"kind": "curves", "reset": reset, "curves": named, "view": self._now}
        self.send(message, packed(points))

    def _heard(self, _: Any, message: Any, __: Any) -> None:
        kind = message.get("kind") if isinstance(message, dict) else None
        if kind == "ready":
            self.seen.set()
            with self._lock:
                self._replace()
        elif kind == "range":
            low_high = message.get("range")
            with self._lock:
                self._range = (float(low_high[0]), float(low_high[1])) if low_high else None
                self._replace()
        elif kind is not None and self._on_ask is not None:
            self._on_ask(message)


def _hear_while_the_cell_runs(panel: Panel) -> None:
    # ipykernel 7.4 sends the messages of a comm to the loop that created it, which a running cell
    # blocks; without this hook they are heard in the front end's own subshell, at once.
    if hasattr(panel.comm, "_reply_subshell_for"):
        panel.comm._reply_subshell_for = None  # noqa: SLF001 - it has no public switch
