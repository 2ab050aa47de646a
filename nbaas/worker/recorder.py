"""What a rank records of `nbaas.log` and of the scalars that its loop assigns.

Rule: every rank evaluates what is logged, since a sharded value is a collective; rank 0 keeps it.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nbaas.worker.log import entries, set_recorder
from nbaas.worker.metrics import MetricsWriter
from nbaas.worker.pictures import PictureWriter
from nbaas.worker.vitals import Vitals

MOST_SERIES = 10_000  # of one job
OWN = frozenset({"loss", "lr", "rows"})  # recorded at every step without being asked for
NOTE = "__nbaas_note__"  # how the cell's code calls `RankRecorder.note`
CLOCKS = frozenset({"time", "perf_counter", "monotonic", "process_time", "perf_counter_ns"})
FLOAT = {float}
LOOPS = (ast.For, ast.AsyncFor, ast.While)


class RankRecorder:
    """Writes what is logged to `metrics` and `pictures`; a rank above 0 has None for both."""

    def __init__(
        self, place: Vitals, metrics: MetricsWriter | None, pictures: PictureWriter | None
    ) -> None:
        self._place = place  # where training is: step and epoch
        self._metrics = metrics
        self._pictures = pictures
        self._series: dict[str, int] = {}  # name -> its last place on the axis
        self._logged: set[str] = set()
        self._plain: set[str] = set()  # recorded as numbers before, under the same name
        self._refused = False

    def install(self) -> None:
        """Let `nbaas.log` and the notes in the cell come here."""
        set_recorder(self)
        setattr(builtins, NOTE, self.note)

    @property
    def places(self) -> dict[str, int]:
        """The last place of each series: what a run that goes on later begins with."""
        return dict(self._series)

    @places.setter
    def places(self, series: dict[str, int]) -> None:
        self._series = dict(series)

    def close(self) -> None:
        set_recorder(None)
        if self._pictures is not None:
            self._pictures.close()

    def record(self, values: Mapping[str, Any], step: int | None) -> None:
        at = self._place.step if step is None else step
        if values.keys() <= self._plain and set(map(type, values.values())) == FLOAT and at:
            # What a loop logs again and again, at little more than the cost of a row.
            if self._metrics is not None:
                self._series.update(dict.fromkeys(values, at))
                self._metrics.add(at, self._place.epoch, dict(values), "log")
            return
        numbers: dict[str, float] = {}
        for name, entry in entries(values):
            if isinstance(entry, float | int):
                numbers[name if name not in OWN else f"{name} (logged)"] = entry
            elif self._pictures is not None:
                self._pictures.add(self._place.step if step is None else step, name, entry)
        self._logged.update(values)
        self._add(numbers, step)
        known = numbers if self._metrics is None else numbers.keys() & self._series.keys()
        self._plain.update(known)

    def note(self, name: str, value: Any, settle: bool) -> None:  # noqa: FBT001 - called by generated code
        """Take a value that the loop has just assigned, if it is a number.

        Where `settle` is set a tensor of one element counts too, as all ranks wait for it.
        """
        if name in OWN or name in self._logged:
            return
        if type(value) is not float and not _is_numpy_float(value):
            torch = sys.modules.get("torch")
            if not (settle and torch is not None and isinstance(value, torch.Tensor)):
                return
            if value.numel() != 1 or not value.is_floating_point():
                return
            value = value.item()
        self._add({name: float(value)}, None)

    def _add(self, numbers: dict[str, float], step: int | None) -> None:
        if self._metrics is None or not numbers:
            return
        if not numbers.keys() <= self._series.keys():
            numbers = self._admitted(numbers)
        at = self._place.step if step is None else step
        if step is None and not at:
            # A loop without an optimizer: its calls are its steps.
            at = 1 + max((self._series[name] for name in numbers), default=0)
        for name in numbers:
            self._series[name] = at
        self._metrics.add(at, self._place.epoch, numbers, "log")

    def _admitted(self, numbers: dict[str, float]) -> dict[str, float]:
        """Return those that are known, or still find room among MOST_SERIES."""
        for name in numbers:
            if name in self._series:
                continue
            if len(self._series) < MOST_SERIES:
                self._series[name] = 0
            elif not self._refused:
                self._refused = True
                limit = f"{MOST_SERIES:,} series are the most that a job keeps"
                print(f"nbaas: {name}: not recorded, {limit}", file=sys.stderr)  # noqa: T201 - into the rank's log
        return {name: value for name, value in numbers.items() if name in self._series}


def _is_numpy_float(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.floating)


def with_notes(tree: ast.Module) -> ast.Module:
    """Return the cell with a call of NOTE after each scalar that a loop of it may assign.

    Looked at are loops at the top level of the cell and, further inside, those that hold a loop
    themselves: passes over the data, not the single batches in them.  Left out are sums that grow,
    constants, clocks, private names and what `log(name=...)` records itself.
    """
    skipped = _accumulated(tree) | _logged_by_name(tree)
    tree.body = _walked(tree.body, skipped, inside=False, outer=True)
    return tree


def _walked(
    body: Sequence[ast.stmt], skipped: set[str], *, inside: bool, outer: bool, settle: bool = False
) -> list[ast.stmt]:
    """Return statements with notes; `inside`: of a loop that is looked at; `outer`: in no loop yet."""
    made: list[ast.stmt] = []
    for node in body:
        made.append(node)
        if isinstance(node, LOOPS):
            nested = any(isinstance(part, LOOPS) for part in ast.walk(node) if part is not node)
            if outer or nested:
                node.body = _walked(node.body, skipped, inside=True, outer=False, settle=nested)
        elif isinstance(node, ast.With | ast.AsyncWith | ast.If | ast.Try):
            for block in ("body", "orelse", "finalbody"):
                if inner := getattr(node, block, None):
                    walked = _walked(inner, skipped, inside=inside, outer=outer, settle=settle)
                    setattr(node, block, walked)
        elif (
            inside and isinstance(node, ast.Assign | ast.AnnAssign) and _may_be_a_score(node.value)
        ):
            made += [
                _note(name, node, settle=settle) for name in _names(node) if name not in skipped
            ]
    return made


def _names(node: ast.Assign | ast.AnnAssign) -> Iterator[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    for target in targets:
        parts = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        for part in parts:
            if isinstance(part, ast.Name) and not part.id.startswith("_"):
                yield part.id


def _may_be_a_score(value: ast.expr | None) -> bool:
    if value is None or isinstance(value, ast.Constant):
        return False
    if isinstance(value, ast.Call):
        name = getattr(value.func, "attr", getattr(value.func, "id", ""))
        return name not in CLOCKS
    return True


def _note(name: str, at: ast.stmt, *, settle: bool) -> ast.stmt:
    read = ast.Name(name, ast.Load())
    call = ast.Call(
        ast.Name(NOTE, ast.Load()), [ast.Constant(name), read, ast.Constant(settle)], []
    )
    return ast.fix_missing_locations(ast.copy_location(ast.Expr(call), at))


def _accumulated(tree: ast.AST) -> set[str]:
    """Return the names that grow by `+=` and its like."""
    grown = (node.target for node in ast.walk(tree) if isinstance(node, ast.AugAssign))
    return {target.id for target in grown if isinstance(target, ast.Name)}


def _logged_by_name(tree: ast.AST) -> set[str]:
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    logs = (c for c in calls if getattr(c.func, "attr", getattr(c.func, "id", "")) == "log")
    return {keyword.arg for call in logs for keyword in call.keywords if keyword.arg}
