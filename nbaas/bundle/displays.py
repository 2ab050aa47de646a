"""What a cell shows besides its prints: `display(x)`, figures, its last value; as MIME bundles.

Rule: one process of a job has a sink (rank 0); elsewhere what is shown is dropped.
"""

from __future__ import annotations

import base64
import io
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from nbaas.journal import JournalWriter

_METHODS = {
    "text/html": "_repr_html_",
    "text/markdown": "_repr_markdown_",
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
    "image/jpeg": "_repr_jpeg_",
    "text/latex": "_repr_latex_",
    "application/json": "_repr_json_",
}


class DisplaySink(Protocol):
    """Takes what is shown: display_data, update_display_data, execute_result or clear_output.

    An update replaces what was shown under the same `display_id`.
    """

    def show(self, kind: str, data: dict[str, Any], display_id: str) -> None: ...


class JournalSink:
    """Appends what is shown to a journal; a form over 32 KB goes into a file beside it."""

    LARGE = 32 << 10  # characters: a line of a journal stays short

    def __init__(self, path: Path, leave_out: int = 0, made: int = 0) -> None:
        """`leave_out` are records that come once more; `made` is past the number of any file."""
        self._path = path
        self._journal = JournalWriter(path)
        self._leave_out = leave_out
        self._count = made

    def show(self, kind: str, data: dict[str, Any], display_id: str) -> None:
        if self._leave_out > 0:
            self._leave_out -= 1
            return
        record: dict[str, Any] = {"kind": kind, "data": {}, "files": {}, "metadata": {}}
        if display_id:
            record["display_id"] = display_id
        for mime, value in data.items():
            if isinstance(value, str) and len(value) > self.LARGE:
                record["files"][mime] = self._to_file(value)
            else:
                record["data"][mime] = value
        self._journal.append(record)

    def _to_file(self, text: str) -> str:
        """Return the name of a new file with `text`, relative to the journal's folder."""
        self._count += 1
        folder = self._path.with_suffix("")
        folder.mkdir(exist_ok=True)
        file = folder / f"{self._count}.txt"
        file.write_text(text)
        return f"{folder.name}/{file.name}"

    def close(self) -> None:
        self._journal.close()


class _Current:
    sink: DisplaySink | None = None


def set_sink(sink: DisplaySink | None) -> None:
    """Let this process show to `sink`; None drops what is shown."""
    _Current.sink = sink


def show(value: Any, kind: str = "display_data", display_id: str = "") -> None:
    """Show `value` as a front end would: its rich forms and its text."""
    if _Current.sink is not None:
        _Current.sink.show(kind, mime_bundle(value), display_id)


class DisplayHandle:
    """What `display(..., display_id=True)` returns: shows something else in the same place."""

    def __init__(self, display_id: str | None = None) -> None:
        self.display_id = display_id or uuid.uuid4().hex

    def display(self, value: Any, **_: Any) -> None:
        show(value, display_id=self.display_id)

    def update(self, value: Any, **_: Any) -> None:
        show(value, "update_display_data", self.display_id)


def display(
    *values: Any, raw: bool = False, display_id: str | bool | None = None, **_: Any
) -> DisplayHandle | None:
    """Stand in for IPython's `display` in a rank."""
    handle = DisplayHandle(display_id if isinstance(display_id, str) else None)
    shown_as = handle.display_id if display_id else ""
    for value in values:
        if not raw:
            show(value, display_id=shown_as)
        elif _Current.sink is not None:
            _Current.sink.show("display_data", value, shown_as)
    return handle if display_id else None


def update_display(value: Any, *, display_id: str, **_: Any) -> None:
    """Stand in for IPython's `update_display` in a rank."""
    DisplayHandle(display_id).update(value)


def publish_display_data(data: dict[str, Any], *_: Any, **__: Any) -> None:
    """Stand in for IPython's `publish_display_data` in a rank."""
    display(data, raw=True)


def clear_output(*_: Any, **__: Any) -> None:
    """Stand in for IPython's `clear_output` in a rank."""
    if _Current.sink is not None:
        _Current.sink.show("clear_output", {"text/plain": ""}, "")


def mime_bundle(value: Any) -> dict[str, Any]:
    """Return MIME type -> text of `value`; images are PNG in base64."""
    if _is_figure(value):
        return {"image/png": figure_png(value), "text/plain": repr(value)}
    bundle: dict[str, Any] = {}
    if callable(whole := getattr(value, "_repr_mimebundle_", None)) and not isinstance(value, type):
        bundle |= _formatted(whole) or {}
    for mime, name in _METHODS.items():
        method = getattr(type(value), name, None)
        if method is not None and mime not in bundle:
            text = _formatted(getattr(value, name))
            if text is not None:
                bundle[mime] = base64.b64encode(text).decode() if isinstance(text, bytes) else text
    return bundle | {"text/plain": repr(value)}


def _formatted(method: Callable[[], Any]) -> Any:
    try:
        result = method()
    except Exception:  # noqa: BLE001 - a broken repr costs its form, not the run; IPython does the same
        return None
    return result[0] if isinstance(result, tuple) else result


def _is_figure(value: Any) -> bool:
    module = sys.modules.get("matplotlib.figure")
    return module is not None and isinstance(value, module.Figure)


def figure_png(figure: Any) -> str:
    """Return the figure as PNG in base64, cut to what is drawn."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return base64.b64encode(buffer.getvalue()).decode()


def show_figures() -> None:
    """Show and close the open figures of pyplot, as the notebook does at `plt.show` and at the end."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    for number in pyplot.get_fignums():
        show(pyplot.figure(number))
        pyplot.close(number)
