"""A run in a terminal: what rank 0 prints, and one line that is rewritten in place.

Also the protocol of every place where a run is shown.
"""

from __future__ import annotations

import re
import sys
import time
from typing import Any, Protocol

from nbaas.records import JobPaths
from nbaas.widgets.run import RunView

TEXT_INTERVAL = 1.0  # seconds between two lines of text
CLEAR_LINE = "\r\x1b[2K"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Show(Protocol):
    """Where a run is shown."""

    def open(self, run: RunView) -> None: ...
    def update(self, run: RunView) -> None: ...
    def write(self, text: str) -> None:
        """Print what rank 0 printed; main thread only."""

    def display(self, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Show a figure or another rich output of rank 0; main thread only."""

    def tell(self, message: dict[str, Any], *buffers: bytes) -> None:
        """Answer what the panel asked for."""

    def close(self, run: RunView, paths: JobPaths) -> None:
        """Leave what stays: the figure and one line of text."""


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

    def tell(self, message: dict[str, Any], *buffers: bytes) -> None:
        """A terminal has no buttons that ask."""

    def close(self, run: RunView, paths: JobPaths) -> None:  # noqa: ARG002 - a terminal shows text
        clear = CLEAR_LINE if self._in_place else ""
        sys.stderr.write(clear + run.line(time.time()) + "\n")
        sys.stderr.flush()


def uncoloured(text: str) -> str:
    """Return `text` as it goes into a file."""
    return _COLOURS.sub("", text)
