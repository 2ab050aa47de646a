"""A rank's side of checkpoints: saves the running cell, and puts a new rank where another one was."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, Protocol

from nbaas.bundle import Bundle, ResultSummary, read_result, write_result
from nbaas.bundle import manifest as manifests
from nbaas.bundle.result import apply_changes
from nbaas.bundle.revive import revive
from nbaas.bundle.states import same
from nbaas.records import JobPaths
from nbaas.worker.checkpoints import STATE, Checkpoint, Draft, save_models
from nbaas.worker.loops import makers, mentions, rebinds_first
from nbaas.worker.position import Position
from nbaas.worker.walk import Resumption, Turns

ITERATORS, MARKS, MARK, SERIES = "@iterators", "@marks", "@mark", "@series"


class Impossible(Exception):  # noqa: N818 - no error of the run: only this cell has no such place
    """The cell could not be resumed from here; `str()` says why."""


class Session(Protocol):
    """What of `nbaas.parallel`'s session saving needs."""

    steps: int

    def mark(self, *, settings: bool = False) -> Any: ...
    def meet(self, place: str) -> None: ...
    def apart(self) -> AbstractContextManager[None]: ...
    def materialize(self, *trees: Any) -> None: ...


class Recorder(Protocol):
    places: dict[str, int]


class Saver:
    """Saves a running cell where its walk says so; every rank calls it, rank 0 writes."""

    def __init__(
        self, paths: JobPaths, bundle: Bundle, session: Session, recorder: Recorder, rank: int
    ) -> None:
        self.taken = 0
        self.refused = ""  # why this cell cannot be resumed in the middle
        self._paths = paths
        self._bundle = bundle
        self._session = session
        self._recorder = recorder
        self._rank = rank
        self._tree = ast.parse(bundle.cell.source, bundle.cell.file_name)

    def save(
        self,
        namespace: dict[str, Any],
        position: Position,
        turns: list[Turns],
        flush: Callable[[], None],
    ) -> None:
        """Write a checkpoint; where that fails the run goes on and says so."""
        values = {name: value for name, value in namespace.items() if travels(name, value)}
        self._session.materialize(values)
        sys.stdout.flush()
        flush()
        # Rows of steps that are in the checkpoint are on file on every rank, or they would be missing.
        self._session.meet("checkpoint")
        if self._rank or self.refused:
            return
        try:
            self._write(namespace, position, turns)
            self.taken += 1
        except Impossible as why:
            self.refused = str(why)
            _note(f"no checkpoint: {why}; this cell can be resumed from its start only")
        except OSError as failed:
            _note(f"no checkpoint at step {self._session.steps}: {failed.strerror}")

    def _write(self, namespace: dict[str, Any], position: Position, turns: list[Turns]) -> None:
        extras = {
            ITERATORS: {loop.number: loop.iterator for loop in turns if loop.native},
            MARKS: {loop.number: loop.mark for loop in turns if not loop.native},
            MARK: self._session.mark(settings=True),
            SERIES: self._recorder.places,
        }
        draft = Draft(self._paths.checkpoints, self._session.steps)
        try:
            with self._session.apart():
                summary = write_result(draft.root / STATE, self._bundle, namespace, extras=extras)
                remade = self._remade(namespace, summary, position)
                _check_extras(draft, extras)
                save_models(draft.root, _models(namespace))
            draft.complete(
                position=position,
                iterators=tuple(extras[ITERATORS]),
                marks=tuple(extras[MARKS]),
                remade=tuple(statement.lineno for statement in remade),
                log=_log_size(),
                shown=_lines(self._paths),
            )
        except BaseException:
            draft.discard()
            raise

    def _remade(
        self, namespace: dict[str, Any], summary: ResultSummary, position: Position
    ) -> list[ast.stmt]:
        """Return the statements that make again what could not be kept.

        Raises: Impossible: a value is neither kept nor made again.
        """
        initial = self._bundle.loaded.initial if self._bundle.loaded else {}
        kept = {returned.name for returned in summary.bound}
        missing = {
            name
            for name, value in namespace.items()
            if travels(name, value)
            and name not in kept
            and not (name in initial and same(initial[name], value))
        }
        reasons = {note.partition(" ")[0]: note for note in summary.notes}
        inner = [note for note in summary.notes if note.partition(" ")[0] not in missing]
        if inner:
            raise Impossible(inner[0])
        top, body = self._place(position)
        remade = makers(self._tree, missing, top.lineno)
        made = {target.id for s in remade for target in _targets(s)}
        for name in sorted(missing - made):
            after = [s for s in self._tree.body if s.lineno > top.lineno]
            dead = position.in_loop and rebinds_first(body, name) and not mentions(after, name)
            if not dead:
                kind = type(namespace[name]).__name__
                raise Impossible(reasons.get(name, f"{name} ({kind}) cannot be kept"))
        return remade

    def _place(self, position: Position) -> tuple[ast.stmt, list[ast.stmt]]:
        """Return the cell's own statement at `position`, and the body of the loop it is in."""
        number = -1

        def find(body: list[ast.stmt], target: int) -> ast.stmt | None:
            nonlocal number
            for statement in body:
                number += 1
                if number == target:
                    return statement
                inside = isinstance(statement, (ast.For, ast.While))
                found = find(statement.body, target) if inside else None  # type: ignore[attr-defined]
                if found is not None:
                    return found
            return None

        place = find(self._tree.body, position.at)
        assert place is not None  # noqa: S101 - numbers come from this very tree
        top = next(s for s in reversed(self._tree.body) if s.lineno <= place.lineno)
        return top, getattr(place, "body", [])


def resumption(
    point: Checkpoint, bundle: Bundle, namespace: dict[str, Any], recorder: Recorder
) -> Resumption:
    """Put the values of a checkpoint into `namespace`, which holds those of the bundle.

    Returns where the cell goes on.
    """
    loaded = bundle.loaded
    assert loaded is not None  # noqa: S101 - the rank has loaded it
    live = {number: noted[0] for number, noted in loaded.noted.items()}
    result = read_result(point.root / STATE, verify=False)
    device = loaded.regions.device
    names, changes, _ = result.decoded(live, len(loaded.memo), namespace, device)
    apply_changes(changes, live)
    iterators, marks, mark = (names.pop(extra) for extra in (ITERATORS, MARKS, MARK))
    recorder.places = names.pop(SERIES)
    namespace.update(names)
    for name in result.summary.deleted:
        namespace.pop(name, None)
    _make_again(point, bundle, namespace)
    revive(namespace.values())
    return Resumption(point.position, iterators, marks, mark)


def _make_again(point: Checkpoint, bundle: Bundle, namespace: dict[str, Any]) -> None:
    tree = ast.parse(bundle.cell.source, bundle.cell.file_name)
    for statement in tree.body:
        if statement.lineno in point.remade:
            code = compile(ast.Module([statement], []), bundle.cell.file_name, "exec")
            exec(code, namespace)  # noqa: S102 - the user's own cell


def travels(name: str, value: Any) -> bool:
    """Return whether a name of the cell's is kept: modules and what is Python's or ours is not."""
    dunder = name.startswith("__") and name.endswith("__")
    return not dunder and not isinstance(value, ModuleType)


def _check_extras(draft: Draft, extras: dict[str, Any]) -> None:
    """Raise Impossible where an iterator or a mark was left out because it could not be pickled."""
    places = manifests.places_from_json((draft.root / STATE / manifests.PLACES).read_bytes())
    lost = [name for name in extras if name not in places.items]
    if lost:
        raise Impossible("the items of a loop cannot be kept")


def _targets(statement: ast.stmt) -> list[ast.Name]:
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    return [target for target in targets if isinstance(target, ast.Name)]


def _models(namespace: dict[str, Any]) -> dict[str, Any]:
    from torch import nn

    found: dict[str, Any] = {}
    for name, value in namespace.items():
        if isinstance(value, nn.Module) and not any(value is other for other in found.values()):
            found[name] = value
    return found


def _log_size() -> int:
    try:
        return os.lseek(1, 0, os.SEEK_END)
    except OSError:  # not a file: a pipe, a terminal
        return 0


def _lines(paths: JobPaths) -> int:
    try:
        return paths.displays.read_bytes().count(b"\n")
    except OSError:
        return 0


def _note(text: str) -> None:
    print(f"nbaas: {text}", file=sys.stderr, flush=True)  # noqa: T201 - into the rank's log
