"""How a run is shown while the cell waits: in a notebook as a panel, in a terminal as one line.

Rules: prints only from the kernel's main thread, into the cell that runs; everything else goes by
display id or widget.  What stays in the notebook holds no widget: it opens without a kernel.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from nbaas.widgets.run import RunView
from nbaas.widgets.terminal import TEXT_INTERVAL, Show, TerminalShow

Bundle = tuple[dict[str, Any], dict[str, Any]]

if TYPE_CHECKING:
    from nbaas.widgets.panel import Ask


def final_outputs(run: RunView, now: float) -> tuple[Bundle, dict[str, Any]]:
    """Return what stays of a run: data and metadata of its figure, data of its summary."""
    from nbaas.widgets.figure import mime_bundle
    from nbaas.widgets.summary import summary_html, summary_text

    text = summary_text(run, now)
    summary = {"text/plain": text, "text/html": summary_html(run, now)}
    return mime_bundle(run.title(now), run.line(now), run.curves), summary


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

    def tell(self, message: dict[str, Any], *buffers: bytes) -> None:
        self._panel.tell(message, *buffers)

    def close(self, run: RunView) -> None:
        now = time.time()
        self._panel.show(run.view(now), run.curves, last=True)
        (figure, metadata), summary = final_outputs(run, now)
        self._figure.update(figure, metadata=metadata, raw=True)
        self._line.update(summary, raw=True)
        # The widget stays open: a page that was loaded anew meanwhile does not know the display's
        # id, so it goes on showing the panel, which then holds the whole history.
