"""How a run is shown while the cell waits: in a notebook as a panel, in a terminal as one line.

Rules: prints only from the kernel's main thread, into the cell that runs; everything else goes by
display id or widget.  What stays in the notebook holds no widget: it opens without a kernel.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

from nbaas.widgets.run import RunView

TEXT_INTERVAL = 1.0  # seconds between two lines of text
CLEAR_LINE = "\r\x1b[2K"

Ask = Callable[[dict[str, Any]], None]


class Show(Protocol):
    """Where a run is shown."""

    def open(self, run: RunView) -> None: ...
    def update(self, run: RunView) -> None: ...
    def write(self, text: str) -> None:
        """Print what rank 0 printed; main thread only."""

    def display(self, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Show a figure or another rich output of rank 0; main thread only."""

    def tell(self, message: dict[str, Any]) -> None:
        """Answer what the panel asked for."""

    def close(self, run: RunView) -> None:
        """Leave what stays: the figure and one line of text."""


def show_for(*, has_kernel: bool, on_ask: Ask) -> Show:
    return NotebookShow(on_ask) if has_kernel else TerminalShow()


class NotebookShow:
    """A panel, below it a line of text; at the end a figure takes the panel's place."""

    def __init__(self, on_ask: Ask) -> None:
        from nbaas.widgets.panel import Panel

        self._panel = Panel(on_ask)
        self._figure: Any = None  # display handles
        self._line: Any = None
        self._next_line = 0.0

    def open(self, run: RunView) -> None:
        from IPython.display import display

        view, _ = self._panel._repr_mimebundle_() or ({}, {})
        self._panel.show(run.view(time.time()), run.curves, last=True)
        self._figure = display({**view, "text/plain": ""}, raw=True, display_id=True)
        self._line = display({"text/plain": run.line(time.time())}, raw=True, display_id=True)

    def update(self, run: RunView) -> None:
        """Bring the panel up to date; the line too where no front end has drawn the panel."""
        self._panel.show(run.view(time.time()), run.curves)
        if time.monotonic() < self._next_line:
            return
        self._next_line = time.monotonic() + TEXT_INTERVAL
        if not self._panel.seen.is_set():
            self._line.update({"text/plain": run.line(time.time())}, raw=True)
        else:
            name = run.spec.name
            help_text = f"%stop {name}   %logs {name}   %attach {name}"
            self._line.update({"text/plain": help_text}, raw=True)
            self._next_line = float("inf")

    def write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def display(self, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        from IPython.display import display

        display(data, metadata=metadata, raw=True)

    def tell(self, message: dict[str, Any]) -> None:
        self._panel.tell(message)

    def close(self, run: RunView) -> None:
        from nbaas.widgets.figure import mime_bundle

        now = time.time()
        line = run.line(now)
        self._panel.show(run.view(now), run.curves, last=True)
        data, metadata = mime_bundle(run.title(now), line, run.curves)
        self._figure.update(data, metadata=metadata, raw=True)
        self._line.update({"text/plain": line}, raw=True)
        # The widget stays open: a page that was loaded anew meanwhile does not know the display's
        # id, so it goes on showing the panel, which then holds the whole history.


class TerminalShow:
    """One line that is rewritten in place, where standard error is a terminal."""

    def __init__(self) -> None:
        self._in_place = sys.stderr.isatty()
        self._next_line = 0.0

    def open(self, run: RunView) -> None:
        self.update(run)

    def update(self, run: RunView) -> None:
        if self._in_place and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + TEXT_INTERVAL
            sys.stderr.write(CLEAR_LINE + run.line(time.time()))
            sys.stderr.flush()

    def write(self, text: str) -> None:
        if self._in_place:
            sys.stderr.write(CLEAR_LINE)
            sys.stderr.flush()
        sys.stdout.write(text)
        sys.stdout.flush()
        self._next_line = 0.0 if text.endswith("\n") else time.monotonic() + TEXT_INTERVAL

    def display(self, data: dict[str, Any], metadata: dict[str, Any]) -> None:  # noqa: ARG002 - a terminal shows text
        self.write(str(data.get("text/plain", "")) + "\n")

    def tell(self, message: dict[str, Any]) -> None:
        """A terminal has no buttons that ask."""

    def close(self, run: RunView) -> None:
        clear = CLEAR_LINE if self._in_place else ""
        sys.stderr.write(clear + run.line(time.time()) + "\n")
        sys.stderr.flush()
