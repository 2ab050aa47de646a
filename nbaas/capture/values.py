"""From the live notebook to the contents of a bundle: names, values, texts, and what cannot travel.

Rule: the notebook is read and never changed; only names that the cell needs are looked at.
"""

from __future__ import annotations

import builtins
import dataclasses
import sys
import types
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from nbaas.bundle.ambient import AMBIENT, ambient
from nbaas.bundle.changes import kind_of
from nbaas.bundle.contents import CapturedName, Cell, CellContents, HistoryCell, ValueStream
from nbaas.bundle.definitions import is_notebook_definition
from nbaas.bundle.memory import SpanTable
from nbaas.bundle.paths import Obstacle, find_obstacle
from nbaas.bundle.pickling import ValuePickler
from nbaas.bundle.reducers import register_reducers
from nbaas.capture.modules import edited_since_import
from nbaas.capture.names import CellNames, cell_names
from nbaas.capture.reach import SHELL_NAMES, is_of_shell, value_reads
from nbaas.capture.source import CellTexts, travelling_texts
from nbaas.errors import CaptureError

SMALL = 64 << 10  # bytes; a leftover that is only perhaps needed travels up to this


def capture_cell(
    source: str,
    namespace: dict[str, Any],
    *,
    execution_count: int,
    file_name: str = "",
    history: Sequence[HistoryCell] = (),
    exclude: Collection[str] = (),
) -> CellContents:
    """Return all that the cell needs of `namespace`, still in the kernel's memory.

    `source` is Python (IPython syntax transformed by the caller) on the lines it has in the cell.
    Raises: CaptureError: a value cannot travel, named by its path.  SyntaxError: the user's own.
    """
    register_reducers()
    cell = Cell(execution_count, source, file_name or f"<ipython-input-{execution_count}>")
    names = cell_names(source, lambda name: value_reads(namespace, name))
    refuse_input(source, namespace)
    snapshot = _Snapshot(namespace, names, set(exclude))
    snapshot.take()
    return snapshot.contents(cell, CellTexts(history))


def refuse_input(source: str, namespace: dict[str, Any]) -> None:
    """Raise CaptureError when the cell itself calls `input`, which nobody could answer."""
    if "input" not in namespace and "input" in cell_names(source).needed:
        raise CaptureError(
            "the cell calls input(), and nobody can answer a rank",
            hint="ask in a cell above and use the variable here",
        )


class _Snapshot:
    """Pickles name after name into one stream; what functions need beside joins the queue."""

    def __init__(self, namespace: dict[str, Any], names: CellNames, exclude: set[str]) -> None:
        self._namespace = namespace
        self._names = names
        self._exclude = exclude
        self._spans = SpanTable()
        self._pickler = ValuePickler(namespace, self._spans)
        self._items: list[str] = []
        self._memo_sizes: list[int] = []
        self._captured: list[CapturedName] = []
        self._obstacles: list[Obstacle] = []
        self._left_out: dict[str, None] = {}
        self._missing: dict[str, None] = {}

    def take(self) -> None:
        """Pickle everything; definitions first, since values may need them while they are made.

        Raises: CaptureError: it names every part that cannot travel.
        """
        self._dump(AMBIENT, ambient())
        needed = list(self._names.needed)
        for names in (self._definitions(needed), needed):
            for name in names:
                self._take_name(name, "")
        for name in self._names.perhaps:
            self._take_perhaps(name)
        self._take_needed_beside()
        if self._obstacles:
            raise CaptureError(
                "; ".join(
                    f"{o.path} cannot travel to the ranks: {o.reason}" for o in self._obstacles
                ),
                hint=_way_out(self._obstacles),
            )

    def _definitions(self, names: Iterable[str]) -> list[str]:
        values = ((name, self._namespace.get(name)) for name in names)
        return [
            n for n, v in values if isinstance(v, types.ModuleType) or is_notebook_definition(v)
        ]

    def _take_needed_beside(self) -> None:
        """Take the globals of the functions met, which may bring new functions with them."""
        done: set[str] = set()
        while waiting := [name for name in self._pickler.needed if name not in done]:
            for name in waiting:
                done.add(name)
                if name in self._names.bound and name not in self._names.needed:
                    self._take_perhaps(name)  # the cell binds it before it is used
                else:
                    self._take_name(name, self._pickler.needed[name])

    def _take_name(self, name: str, needed_by: str) -> None:
        if name in self._items or _is_dunder(name):
            return
        if name in SHELL_NAMES and is_of_shell(self._namespace.get(name)):
            return
        if name in self._exclude:
            self._left_out.setdefault(name)
        elif name in self._namespace:
            self._take_value(name, self._namespace[name], needed_by)
        elif not hasattr(builtins, name):
            self._missing.setdefault(name)

    def _take_value(self, name: str, value: Any, needed_by: str) -> None:
        try:
            size = self._dump(name, value)
        except Exception:  # noqa: BLE001 - whatever a user's __reduce__ raises: it is named by path
            self._note_obstacle(name, value, needed_by)
            return
        self._captured.append(CapturedName(name, type(value).__name__, size, needed_by))

    def _note_obstacle(self, name: str, value: Any, needed_by: str) -> None:
        obstacle = find_obstacle(name, value, self._attempt)
        # The stream holds half a pickle now; from here on only obstacles are collected.
        self._items.append(name)
        self._restart()
        if obstacle is not None:
            by = f"{obstacle.reason}, needed by {needed_by}" if needed_by else obstacle.reason
            self._obstacles.append(dataclasses.replace(obstacle, reason=by))

    def _restart(self) -> None:
        needed = self._pickler.needed
        self._spans = SpanTable()
        self._pickler = ValuePickler(self._namespace, self._spans)
        self._pickler.needed.update(needed)

    def _take_perhaps(self, name: str) -> None:
        """Take a leftover of an earlier run when it is small and can travel."""
        if name in self._items or name not in self._namespace or name in self._exclude:
            return
        value = self._namespace[name]
        spans = SpanTable()
        probe = ValuePickler(self._namespace, spans)
        try:
            probe.dump(value)
        except Exception:  # noqa: BLE001 - a leftover that the cell is about to bind again
            self._left_out.setdefault(name)
            return
        if probe.stream.tell() + spans.size_from(0) > SMALL:
            self._left_out.setdefault(name)
        else:
            self._take_value(name, value, "")

    def _attempt(self, value: Any) -> Exception | None:
        try:
            ValuePickler(self._namespace, SpanTable()).dump(value)
        except Exception as error:  # noqa: BLE001 - see _take_value
            return error
        return None

    def _dump(self, item: str, value: Any) -> int:
        """Pickle `value` behind what is there; return the bytes that it adds, memory included."""
        start, first = self._pickler.stream.tell(), len(self._spans)
        self._pickler.dump(value)
        self._items.append(item)
        self._memo_sizes.append(0)
        return int(self._pickler.stream.tell() - start + self._spans.size_from(first))

    def contents(self, cell: Cell, texts: CellTexts) -> CellContents:
        memo: dict[int, Any] = dict(self._pickler.memo.copy().values())
        regions, placed = self._spans.regions()
        self._memo_sizes[-1] = len(memo)
        cells, definitions = travelling_texts(texts, self._pickler.codes, self._pickler.classes)
        values = ValueStream(
            self._pickler.stream.getvalue(),
            tuple(self._items),
            tuple(self._memo_sizes),
            regions,
            placed,
            tuple(self._pickler.buffers),
        )
        roots = {item: self._namespace[item] for item in self._items if item != AMBIENT}
        return CellContents(
            cell,
            tuple(self._captured),
            values,
            cells,
            definitions,
            tuple(entry for entry in sys.path if entry),
            tuple(self._notices(roots)),
            tuple(self._missing),
            tuple(self._left_out),
            roots,
            {number: value for number, value in memo.items() if kind_of(value) is not None},
            [self._spans.alive, [region.memory for region in regions]],
        )

    def _notices(self, roots: dict[str, Any]) -> Iterator[str]:
        if self._pickler.devices:
            places = ", ".join(self._pickler.devices)
            yield f"tensors on {places} travel through main memory"
        for value in roots.values():
            if isinstance(value, types.ModuleType) and edited_since_import(value):
                yield f"{value.__name__} was edited after its import here; ranks use it as it is now"


def _way_out(obstacles: list[Obstacle]) -> str:
    hints = list(dict.fromkeys(o.hint for o in obstacles))
    roots = dict.fromkeys(_root(o.path) for o in obstacles)
    return f"{'; '.join(hints)}; or leave it out with --exclude {','.join(roots)}"


def _root(path: str) -> str:
    return path.partition(".")[0].partition("[")[0].partition("(")[0]


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
