"""Rich outputs of rank 0 (figures, tables, HTML) as a journal that the notebook shows.

Rules: a bundle over INLINE_BYTES goes to a file beside the journal, so that a line stays short.  Ranks
above 0 show nothing.  IPython is not needed: objects bring their own `_repr_*_`.
"""

from __future__ import annotations

import base64
import builtins
import importlib.abc
import importlib.machinery
import itertools
import sys
import threading
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from nbaas.journal import JournalWriter
from nbaas.records import JobPaths

INLINE_BYTES = 16 << 10
METHODS = {
    "_repr_html_": "text/html",
    "_repr_markdown_": "text/markdown",
    "_repr_svg_": "image/svg+xml",
    "_repr_latex_": "text/latex",
    "_repr_json_": "application/json",
    "_repr_png_": "image/png",
    "_repr_jpeg_": "image/jpeg",
}
IPYTHON = "IPython.core.display_functions"

Bundle = dict[str, Any]


class DisplayWriter:
    """Appends rich outputs to a job's display journal; any thread may call it."""

    def __init__(self, paths: JobPaths) -> None:
        self._folder = paths.root / "displays"
        self._journal = JournalWriter(paths.displays)
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def show(self, data: Bundle, *, display_id: str = "", update: bool = False) -> None:
        """Write one MIME bundle; `display_id` names an output that a later one may update."""
        with self._lock:
            inline = {mime: value for mime, value in data.items() if not _is_large(value)}
            files = {mime: self._store(value) for mime, value in data.items() if _is_large(value)}
            record: Bundle = {"data": inline, "files": files}
            if display_id:
                record |= {"id": display_id, "update": update}
            self._journal.append(record)

    def clear(self, *, wait: bool) -> None:
        """Take back what was shown so far; with `wait` only when something new comes."""
        with self._lock:
            self._journal.append({"clear": True, "wait": wait})

    def _store(self, value: str) -> str:
        self._folder.mkdir(exist_ok=True)
        path = self._folder / str(next(self._numbers))
        path.write_text(value)
        return f"{self._folder.name}/{path.name}"


_writer: DisplayWriter | None = None


def install(paths: JobPaths, rank: int) -> None:
    """Make `display` work in this rank, as a builtin and where IPython's is imported."""
    global _writer  # noqa: PLW0603 - a process is one rank
    _writer = DisplayWriter(paths) if rank == 0 else None
    builtins.display = display  # type: ignore[attr-defined]
    sys.meta_path.insert(0, _IPythonDisplay())


def display(
    *objects: Any,
    raw: bool = False,
    display_id: str | bool | None = None,
    update: bool = False,
    **_: Any,
) -> None:
    """Show objects in the notebook, as IPython's function of the same name does."""
    if _writer is None:
        return
    name = display_id if isinstance(display_id, str) else ""
    for shown in objects:
        data = shown if raw else mime_bundle(shown)
        _writer.show(data, display_id=name, update=update)


def update_display(shown: Any, *, display_id: str, **options: Any) -> None:
    display(shown, display_id=display_id, **{**options, "update": True})


def clear_output(wait: bool = False) -> None:  # noqa: FBT001, FBT002 - IPython's signature
    if _writer is not None:
        _writer.clear(wait=wait)


def publish(
    data: Bundle, metadata: Bundle | None = None, *, update: bool = False, **options: Any
) -> None:
    """Show a MIME bundle that is one already; `metadata` is not carried."""
    del metadata
    name = str((options.get("transient") or {}).get("display_id", ""))
    display(data, raw=True, display_id=name, update=update)


def mime_bundle(shown: Any) -> Bundle:
    """Return what an object has to say about itself, by MIME type; bytes as base64."""
    if _is_figure(shown):
        return {"image/png": figure_png(shown), "text/plain": repr(shown)}
    found: Bundle = {"text/plain": repr(shown)}
    whole = getattr(shown, "_repr_mimebundle_", None)
    if callable(whole) and not isinstance(shown, type):
        answer = whole(include=None, exclude=None)
        found |= answer[0] if isinstance(answer, tuple) else answer or {}
    for method, mime in METHODS.items():
        say = getattr(shown, method, None)
        if mime not in found and callable(say) and not isinstance(shown, type):
            answer = say()
            if answer is not None:
                found[mime] = answer[0] if isinstance(answer, tuple) else answer
    return {mime: _text(value) for mime, value in found.items()}


def figure_png(figure: Any) -> str:
    """Return a matplotlib figure as PNG in base64."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, format="png", bbox_inches="tight")
    return base64.b64encode(buffer.getvalue()).decode()


def _is_figure(shown: Any) -> bool:
    module = sys.modules.get("matplotlib.figure")
    return module is not None and isinstance(shown, module.Figure)


def _is_large(value: Any) -> bool:
    return isinstance(value, str) and len(value) > INLINE_BYTES


def _text(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


class _IPythonDisplay(importlib.abc.MetaPathFinder):
    """Puts our functions into IPython's module when it is imported: there is no shell in a rank."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != IPYTHON:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Patched(spec.loader)
        return spec


class _Patched(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        vars(module).update(
            display=display,
            update_display=update_display,
            clear_output=clear_output,
            publish_display_data=publish,
        )
