"""Where a running cell is in its loops: told to who saves, and gone back to by a rank that resumes.

The rewritten cell (see loops) calls `enters`, `over`, `turn` and `amid`.  Rule: every rank comes to the
same places in the same order, so what is decided here from steps alone needs no message.
"""

from __future__ import annotations

import functools
import itertools
import sys
import time
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from nbaas.errors import JobError
from nbaas.worker.every import Every
from nbaas.worker.loops import Rewritten
from nbaas.worker.position import Position

FINISHING_STEPS = 2  # a stop waits so many steps for the end of the turn
# Iterators that pickle with their place; those of _OVER do where what is inside them does.
_MADE: tuple[Any, ...] = (
    *(range(0), range(1 << 70), [], (), "", b"", {}, {}.values(), {}.items(), set()),
    *(reversed([]), itertools.count()),
)
_NATIVE = frozenset(type(iter(iterable)) for iterable in _MADE)
_OVER = (enumerate, zip, itertools.islice)


class Session(Protocol):
    """What of `nbaas.parallel`'s session a walk needs."""

    steps: int

    def mark(self, *, settings: bool = False) -> Any: ...
    def go_to(self, place: Any) -> None: ...
    def place(self) -> None: ...


@dataclass(slots=True)
class Resumption:
    """What a checkpoint says about the place of the cell."""

    position: Position
    iterators: dict[int, Any]  # loop -> its iterator, where that could be kept
    marks: dict[int, Any]  # loop -> the session as the loop began, where it is walked again
    mark: Any  # the session at `position`


class Turns:
    """The items of a `for` loop of the cell."""

    __slots__ = ("__weakref__", "_walk", "iterator", "mark", "native", "number", "taken")

    def __init__(
        self, walk: Walk, number: int, iterator: Iterator[Any], mark: Any, *, native: bool
    ) -> None:
        self._walk = walk
        self.number = number
        self.iterator = iterator
        self.mark = mark
        self.native = native
        self.taken = 0

    def __iter__(self) -> Turns:
        return self

    def __next__(self) -> Any:
        if self._walk.at_head(self.number):
            return None  # the item under way is in the names already
        item = next(self.iterator)
        self.taken += 1
        return item


class Walk:
    """Follows one run of a cell; `save(position, turns)` is called where a checkpoint is due."""

    def __init__(
        self,
        cell: Rewritten,
        session: Session,
        save: Callable[[Position, list[Turns]], None],
        *,
        every: Every,
        resume: Resumption | None = None,
    ) -> None:
        self.due = False  # someone has asked for a checkpoint
        self.stopping = False  # after the next one the cell ends
        self.vote: Callable[[], None] = self._decide  # asks all ranks for a checkpoint
        self._cell = cell
        self._session = session
        self._save = save
        self._every = every
        self._resume = resume
        position = resume.position if resume else Position(-1)
        self._path = dict(position.loops)
        self._items = {number for number in self._path if position.amid(number)}
        self._bodies = set(self._items)
        self._inside: list[tuple[int, weakref.ref[Turns] | None]] = []  # loops, outermost first
        self._next_step = (resume.mark.steps if resume else session.steps) + every.steps
        self._next_time = time.monotonic() + every.seconds
        self._stop_step = -1
        self._hidden = False  # in a loop whose turns are not followed

    def _decide(self) -> None:
        self.due = True

    # ---- called by the cell ----------------------------------------------------------------------

    def enters(self, number: int) -> bool:
        """Return whether statement `number` runs: not where it had run before the checkpoint."""
        if self._resume is not None:
            position = self._resume.position
            if number != position.at or position.in_loop:
                return number in self._path
            self._arrive()
        elif number in self._cell.tops:
            self._inside.clear()
            self._hidden = False
            self._session.place()
            if self._is_due():
                self._take(Position(number))
        return True

    def over(self, number: int) -> Callable[[Any], Any]:
        """Return what makes the loop's items of its iterable; called before that is evaluated."""
        mark = None
        if self._resume is not None and number in self._path:
            mark = self._resume.marks.get(number)
            if mark is not None:
                self._session.go_to(mark)
        elif not self._cell.loops[number].counts:
            mark = self._session.mark()
        return functools.partial(self._begin, number, mark)

    def turn(self, number: int) -> bool:
        """Stand at the head of a `while` loop; always True."""
        if not self._is_known(number):
            return True
        if not self._inside or self._inside[-1][0] != number:
            self._inside.append((number, None))
        self.at_head(number)
        return True

    def amid(self, number: int) -> bool:
        """Return, once, whether the loop's turn was under way when the checkpoint was taken."""
        if number not in self._bodies:
            return False
        self._bodies.remove(number)
        return True

    # ---- loops -----------------------------------------------------------------------------------

    def _begin(self, number: int, mark: Any, iterable: Any) -> Any:
        resuming = self._resume is not None and number in self._path
        iterator = iter(iterable)
        native = is_native(iterator)
        if not self._is_known(number) or not (native or can_walk_again(iterable, iterator)):
            self._hidden = True
            return iterator
        turns = Turns(self, number, iterator, mark, native=native)
        if resuming and self._resume is not None:
            turns.taken = self._path[number]
            if number in self._resume.iterators:
                turns.iterator = self._resume.iterators[number]
            else:
                turns.iterator = passed_over(iterator, turns.taken)
        self._inside.append((number, weakref.ref(turns)))
        return turns

    def _is_known(self, number: int) -> bool:
        """Return whether a checkpoint can be taken in this loop: in each loop around it, too."""
        outer = self._cell.loops[number].outer
        while self._inside and self._inside[-1][0] not in (outer, number):
            self._inside.pop()
        return outer is None or bool(self._inside)

    def at_head(self, number: int) -> bool:
        """Stand before the next turn of a loop; True where a turn is under way already."""
        self._hidden = False
        if self._resume is None:
            self._session.place()
        if number in self._items:
            self._items.remove(number)
            return True
        if self._resume is not None:
            self._arrive()
            return False
        if self.due or self._every.steps or self._every.seconds:
            while self._inside and self._inside[-1][0] != number:
                self._inside.pop()
            if self._inside and self._is_due():
                self._take(Position(number, self._taken(), in_loop=True))
        return False

    def _taken(self) -> tuple[tuple[int, int], ...]:
        found = []
        for number, reference in self._inside:
            turns = reference() if reference is not None else None
            found.append((number, turns.taken if turns is not None else 0))
        return tuple(found)

    def _arrive(self) -> None:
        assert self._resume is not None  # noqa: S101 - both callers have asked
        mark, self._resume = self._resume.mark, None
        self._session.go_to(mark)

    # ---- saving ----------------------------------------------------------------------------------

    def _is_due(self) -> bool:
        if self._every.seconds and time.monotonic() >= self._next_time:
            self._next_time = time.monotonic() + self._every.seconds
            self.vote()
        return self.due or bool(self._every.steps and self._session.steps >= self._next_step)

    def _take(self, position: Position) -> None:
        self.due = False
        self._next_step = self._session.steps + self._every.steps
        turns = [reference() for _, reference in self._inside if reference is not None]
        self._save(position, [found for found in turns if found is not None])
        # What the writing took is no reason to write again at once.
        self._next_time = time.monotonic() + self._every.seconds

    def finishes_turn(self) -> bool:
        """Return whether the cell should run on to its next safe place before it stops.

        Where the step was made in a function or in a loop that cannot be resumed, that place may be far.
        """
        if not self._inside or self._hidden or self._resume is not None or not _in_cell():
            return False
        if self._stop_step < 0:
            self._stop_step = self._session.steps
        self.due = self.stopping = True
        return self._session.steps - self._stop_step < FINISHING_STEPS


def _in_cell() -> bool:
    """Return whether the innermost code of the notebook that runs now is the cell's own."""
    frame: types.FrameType | None = sys._getframe()  # noqa: SLF001 - as inspect does it
    while frame is not None and frame.f_globals.get("__name__") != "__main__":
        frame = frame.f_back
    return frame is not None and frame.f_code.co_name == "<module>"


def is_native(iterator: Any) -> bool:
    """Return whether an iterator pickles together with its place."""
    if type(iterator) in _NATIVE:
        return True
    return isinstance(iterator, _OVER) and all(map(is_native, _inner(iterator)))


def can_walk_again(iterable: Any, iterator: Any) -> bool:
    """Return whether the same items come once more when the random numbers are those of the start.

    So with DataLoaders and progress bars over them, also counted or zipped; nobody knows of others.
    """
    if is_native(iterator) or _is_loader_pass(iterator):
        return True
    if isinstance(iterator, _OVER):
        return all(can_walk_again(inner, inner) for inner in _inner(iterator))
    bar = iterable
    if isinstance(iterator, types.GeneratorType) and iterator.gi_frame is not None:
        bar = iterator.gi_frame.f_locals.get("self", iterable)
    if not type(bar).__module__.startswith("tqdm"):
        return False
    inside = getattr(bar, "iterable", None)
    if inside is None:
        return False
    return (
        _is_loader(inside)
        or isinstance(inside, (range, list, tuple, dict, str))
        or (isinstance(inside, _OVER) and all(can_walk_again(i, i) for i in _inner(inside)))
    )


def _inner(iterator: Any) -> list[Any]:
    """Return the iterators that one of _OVER draws from."""
    parts: list[Any] = []
    for part in iterator.__reduce__()[1:]:
        for item in part if isinstance(part, tuple) else ():
            nested = item if isinstance(item, tuple) else (item,)
            parts += [found for found in nested if hasattr(found, "__next__")]
    return parts


def _is_loader_pass(value: Any) -> bool:
    return type(value).__name__ == "GlobalBatches" and type(value).__module__.startswith("nbaas.")


def _is_loader(value: Any) -> bool:
    from torch.utils.data import DataLoader

    return isinstance(value, DataLoader)


def passed_over(iterator: Any, count: int) -> Any:
    """Return an iterator that has just begun without its first `count` items."""
    if isinstance(iterator, enumerate):
        made: Any = iterator.__reduce__()
        inner, start = made[1]
        return enumerate(passed_over(inner, count), start + count)
    if type(iterator) is zip:
        return zip(*(passed_over(inner, count) for inner in _inner(iterator)), strict=False)
    try:
        if _is_loader_pass(iterator):
            iterator.pass_over(count)
        else:
            for _ in range(count):
                next(iterator)
    except StopIteration:
        raise JobError(
            f"the loop has fewer than the {count} items it had at the checkpoint",
            hint="its data has changed: run the cell from its start",
        ) from None
    return iterator
