"""How a run is shown while the cell waits: in a notebook as a panel, in a terminal as one line.

Rules: prints only from the kernel's main thread, into the cell that runs; everything else goes by
display id or widget.  What stays in the notebook holds no widget: it opens without a kernel.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from nbaas.errors import JobError
from nbaas.records import JobPaths
from nbaas.widgets.outputs import Outputs, drawn_apart, final_outputs, mark
from nbaas.widgets.run import RunView
from nbaas.widgets.terminal import TEXT_INTERVAL, Show, TerminalShow

if TYPE_CHECKING:
    from nbaas.widgets.panel import Ask


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
        marked = {part: mark(run.spec.id, part) for part in ("figure", "summary")}
        view = {**view, "text/plain": ""}
        self._figure = display(view, raw=True, display_id=True, metadata=marked["figure"])
        line = {"text/plain": run.line(time.time())}
        self._line = display(line, raw=True, display_id=True, metadata=marked["summary"])

    def update(self, run: RunView) -> None:
        """Bring the panel up to date; the line too where no front end has drawn the panel."""
        self._panel.show(run.view(time.time()), run.curves)
        if time.monotonic() < self._next_line:
            return
        self._next_line = time.monotonic() + TEXT_INTERVAL
        if not self._panel.seen.is_set():
            line = {"text/plain": run.line(time.time())}
            self._line.update(line, raw=True, metadata=mark(run.spec.id, "summary"))
        else:
            name = run.spec.name
            help_text = f"%stop {name}   %logs {name}   %attach {name}"
            help_line = {"text/plain": help_text}
            self._line.update(help_line, raw=True, metadata=mark(run.spec.id, "summary"))
            self._next_line = float("inf")

    def write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def display(self, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        from IPython.display import display

        display(data, metadata=metadata, raw=True)

    def tell(self, message: dict[str, Any], *buffers: bytes) -> None:
        self._panel.tell(message, *buffers)

    def close(self, run: RunView, paths: JobPaths) -> None:
        now = time.time()
        self._panel.show(run.view(now), run.curves, last=True)
        final = self._final(run, paths, now)
        self._figure.update(final.figure.data, metadata=final.figure.metadata, raw=True)
        self._line.update(final.summary.data, metadata=final.summary.metadata, raw=True)
        # The widget stays open: a page that was loaded anew meanwhile does not know the display's
        # id, so it goes on showing the panel, which then holds the whole history.

    @staticmethod
    def _final(run: RunView, paths: JobPaths, now: float) -> Outputs:
        """Return what stays; where another cell may be running, nothing large is imported for it."""
        waits = threading.current_thread() is threading.main_thread()
        if not waits and "matplotlib.figure" not in sys.modules:
            with contextlib.suppress(JobError):
                return drawn_apart(paths)
        return final_outputs(run, paths, now)
