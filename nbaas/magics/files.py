"""`%predict digits rows.csv`: the rows of a file answered into another file, with progress."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbaas.config import load_settings
from nbaas.deploy.files import KINDS, predict_file
from nbaas.magics.words import fill_in, unquoted

INTERVAL = 0.2  # seconds between two updates of the line


@dataclass(frozen=True, slots=True)
class PredictedFile:
    """What `%predict` of a file returns: `rows` answers are in `path`."""

    path: Path
    rows: int
    seconds: float

    def __repr__(self) -> str:
        rate = self.rows / max(self.seconds, 1e-6)
        return f"{self.rows:,} answers in {self.path}, {rate:,.0f} rows a second"


def file_named(word: str, namespace: Mapping[str, Any]) -> Path | None:
    """Return the file that a word of the line names; None where it is an expression."""
    word = unquoted(fill_in(word, namespace) if word[:1] in "'\"${" or "$" in word else word)
    path = Path(word).expanduser()
    # `x.npy` might be an attribute, but a name of the notebook comes first.
    known = word.partition(".")[0] in namespace and not path.exists()
    return path if path.suffix in KINDS and not known and "(" not in word else None


def predicted_file(name: str, source: Path, to: str = "") -> PredictedFile:
    """Answer the rows of a file into `to`, or into a file beside it that ends with the endpoint."""
    target = Path(to).expanduser() if to else source.with_stem(f"{source.stem}-{name}")
    started = time.monotonic()
    line = ProgressLine(f"{source.name} to {name}")
    rows = predict_file(load_settings(), name, source, target, progress=line)
    return PredictedFile(target, rows, time.monotonic() - started)


class ProgressLine:
    """One line of a cell that says how far it is; told rows done and rows in all."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._started = self._next = time.monotonic()
        self._handle: Any = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now < self._next and done < total:
            return
        self._next = now + INTERVAL
        spent = now - self._started
        left = spent * (total - done) / max(done, 1)
        when = f"{left:.0f} s left" if done < total else f"{spent:.1f} s"
        self._show(f"{self._what}: {done:,} of {total:,} rows, {when}", done / max(total, 1))

    def _show(self, text: str, share: float) -> None:
        import html

        from IPython.display import display

        bar = f'<progress value="{share:.3f}" style="width:12em"></progress>'
        data = {"text/plain": text, "text/html": f"{bar} {html.escape(text)}"}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)
