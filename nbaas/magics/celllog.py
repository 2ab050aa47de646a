"""`nbaas.log` in a cell that runs in the notebook itself: the newest values, in place below the cell.

Rule: one line and one picture a name for each cell, however often it logs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from nbaas.magics.shell import Shell
from nbaas.worker.log import entries
from nbaas.worker.pictures import Picture

INTERVAL = 0.2  # seconds between two updates of the line


class CellLog:
    """Shows what the running cell logs; with a plain terminal it shows nothing."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._cell = -1  # In number of the cell that the displays belong to
        self._displays: dict[str, Any] = {}  # by name of a picture; '' is the line
        self._values: dict[str, float] = {}
        self._step: int | None = None
        self._due = 0.0
        self._timer: threading.Timer | None = None

    def record(self, values: Mapping[str, Any], step: int | None) -> None:
        found = list(entries(values))
        if not self._shell.has_kernel:
            return
        self._begin()
        numbers = {name: one for name, one in found if isinstance(one, float | int)}
        for name, entry in found:
            if isinstance(entry, Picture):
                self._show(name, {"image/png": entry.png, "text/plain": name})
        if numbers:
            self._values |= numbers
            self._step = step
            self._line_soon()

    def _begin(self) -> None:
        number = self._shell.execution_count
        if number != self._cell:
            self._cell = number
            self._displays.clear()
            self._values.clear()

    def _line_soon(self) -> None:
        """Show the line now, or, where that was done just now, once it may be shown again."""
        wait = self._due - time.monotonic()
        if wait <= 0 or "" not in self._displays:
            self._show_line()
        elif self._timer is None:
            self._timer = threading.Timer(wait, self._show_line)
            self._timer.daemon = True
            self._timer.start()

    def _show_line(self) -> None:
        self._timer = None
        self._due = time.monotonic() + INTERVAL
        at = "" if self._step is None else f"step {self._step}: "
        line = at + ", ".join(f"{name} {value:.4g}" for name, value in list(self._values.items()))
        self._show("", {"text/plain": line})

    def _show(self, name: str, data: dict[str, Any]) -> None:
        from IPython.display import display

        if (shown := self._displays.get(name)) is not None:
            shown.update(data, raw=True)
        else:
            self._displays[name] = display(data, raw=True, display_id=True)
