"""What a rank gives back: names the cell bound, and the changes in the values it was given.

Rule: what cannot travel is left out and named; writing a result raises only for the disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nbaas.bundle import manifest as manifests
from nbaas.bundle.ambient import AMBIENT, random_state
from nbaas.bundle.blobs import file_digest
from nbaas.bundle.changes import kind_of
from nbaas.bundle.contents import ValueStream
from nbaas.bundle.manifest import FileEntry, places_from_json
from nbaas.bundle.memory import LoadedRegions, SpanTable
from nbaas.bundle.paths import Obstacle, find_obstacle, path_of
from nbaas.bundle.pickling import ValuePickler
from nbaas.bundle.reducers import register_reducers
from nbaas.bundle.restoring import ValueUnpickler
from nbaas.bundle.states import same
from nbaas.bundle.store import Bundle, Loaded, check_files, write_values
from nbaas.config import own_folder
from nbaas.errors import BundleError

CHANGE = "@change"


@dataclass(frozen=True, slots=True)
class ReturnedName:
    name: str
    kind: str  # the class of the value
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class ResultSummary:
    """What a result holds, for people; `notes` name what stayed behind, and why."""

    bound: tuple[ReturnedName, ...]
    deleted: tuple[str, ...]
    changes: int
    notes: tuple[str, ...]
    files: dict[str, FileEntry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """What to do to the value with this memo number."""

    number: int
    payload: Any


@dataclass(frozen=True, slots=True)
class Result:
    """A verified result on disk; its values are made by `decoded`."""

    directory: Path
    summary: ResultSummary

    def decoded(
        self, live: dict[int, Any], count: int, namespace: dict[str, Any], device: str = "cpu"
    ) -> tuple[dict[str, Any], list[Change], dict[str, Any]]:
        """Return (names bound, changes, random state), referring to the `live` objects themselves.

        `live` are the kernel's objects by memo number, of `count` numbers in the captured values;
        what was on a device comes to `device`.
        """
        places = places_from_json((self.directory / manifests.PLACES).read_bytes())
        regions = LoadedRegions(
            places.regions, places.spans, lambda name: self.directory / name, device
        )
        pickles = (self.directory / manifests.VALUES).read_bytes()
        known = [live.get(number) for number in range(count)]
        unpickler = ValueUnpickler(pickles, namespace, regions, places.buffers, known)
        names: dict[str, Any] = {}
        changes: list[Change] = []
        ambient: dict[str, Any] = {}
        for item in places.items:
            value = unpickler.load()
            if item == AMBIENT:
                ambient = value
            elif item == CHANGE:
                changes.append(Change(*value))
            else:
                names[item] = value
        return names, changes, ambient


def apply_changes(changes: list[Change], live: dict[int, Any]) -> set[int]:
    """Apply changes to the `live` objects and return the ids of those that have changed."""
    touched = set()
    for change in changes:
        target = live.get(change.number)
        kind = kind_of(target)
        if kind is not None:
            kind.apply(target, change.payload)
            touched.add(id(target))
    return touched


# ---- write: on rank 0 --------------------------------------------------------------------------


def write_result(
    directory: Path,
    bundle: Bundle,
    namespace: dict[str, Any],
    blobs: Path | None = None,
    extras: dict[str, Any] | None = None,
) -> ResultSummary:
    """Write what the cell left in `namespace` and return the summary of it.

    Also right after the cell raised or was stopped: what is complete by then comes back.  `extras`
    are more values, by names that begin with '@': what they share with the cell's stays shared.
    """
    del blobs  # results are of one job and go with it: no blobs
    loaded = bundle.loaded
    if loaded is None:
        raise BundleError("the bundle was never loaded here", hint="Bundle.load comes first")
    own_folder(directory)
    writer = _ResultWriter(loaded, namespace, extras or {})
    stream = writer.stream()
    write_values(directory, stream, None)
    names = (manifests.VALUES, manifests.MEMORY, manifests.PLACES)
    summary = ResultSummary(
        tuple(writer.returned),
        tuple(sorted(name for name in loaded.roots if name not in namespace)),
        stream.items.count(CHANGE),
        tuple(writer.notes),
        {n: FileEntry((directory / n).stat().st_size, file_digest(directory / n)) for n in names},
    )
    manifests.write_file(
        directory / manifests.MANIFEST, json.dumps(asdict(summary), indent=1).encode()
    )
    return summary


class _ResultWriter:
    """Pickles changes and names; starts again without a part when that part cannot be pickled."""

    def __init__(self, loaded: Loaded, namespace: dict[str, Any], extras: dict[str, Any]) -> None:
        register_reducers()
        self._extras = extras
        self._loaded = loaded
        self._namespace = namespace
        self._memo = _base_memo(loaded)
        self._alive: Any = None
        self.notes: list[str] = []
        self.returned: list[ReturnedName] = []

    def stream(self) -> ValueStream:
        entries = [(AMBIENT, random_state()), *self._changes(), *self._names()]
        entries += self._extras.items()
        while True:
            pickler, spans, failed = self._pickled(entries)
            if failed is None:
                break
            entries = self._without(entries, failed)
        # The stream only points to the memory of values such as the random state, made for it alone.
        self._alive = (entries, spans)
        regions, placed = spans.regions()
        return ValueStream(
            pickler.stream.getvalue(),
            tuple(item for item, _ in entries),
            (),
            regions,
            placed,
            tuple(pickler.buffers),
        )

    def _changes(self) -> Iterator[tuple[str, Any]]:
        with self._loaded.regions.watched_pages():
            for number, (value, kind, noted) in self._loaded.noted.items():
                payload = kind.difference(value, noted, self._loaded.regions)
                if payload is not None:
                    yield CHANGE, (number, payload)

    def _names(self) -> Iterator[tuple[str, Any]]:
        initial = self._loaded.initial
        for name, value in self._namespace.items():
            dunder = name.startswith("__") and name.endswith("__")
            kept = name in initial and same(initial[name], value)
            if not kept and not dunder:
                yield name, value

    def _new_pickler(self) -> tuple[ValuePickler, SpanTable]:
        spans = SpanTable()
        pickler = ValuePickler(self._namespace, spans)
        pickler.memo = dict(self._memo)
        return pickler, spans

    def _pickled(
        self, entries: list[tuple[str, Any]]
    ) -> tuple[ValuePickler, SpanTable, int | None]:
        """Return the pickler with all entries in it, or the position of the first that fails."""
        pickler, spans = self._new_pickler()
        self.returned = []
        for position, (item, value) in enumerate(entries):
            start, first = pickler.stream.tell(), len(spans)
            try:
                pickler.dump(value)
            except Exception:  # noqa: BLE001 - whatever a user's __reduce__ raises: it stays behind
                return pickler, spans, position
            if not item.startswith("@"):
                size = pickler.stream.tell() - start + spans.size_from(first)
                self.returned.append(ReturnedName(item, type(value).__name__, size))
        return pickler, spans, None

    def _without(self, entries: list[tuple[str, Any]], failed: int) -> list[tuple[str, Any]]:
        item, value = entries[failed]
        kept: list[tuple[str, Any]] = []
        if item == CHANGE:
            number, payload = value
            owner = self._loaded.noted[number][0]
            path = path_of(owner, self._namespace) or type(owner).__name__
            smaller = self._prune(path, payload)
            kept = [] if smaller is None else [(CHANGE, (number, smaller))]
        elif not item.startswith("@"):
            self._note(find_obstacle(item, value, self._attempt))
        return entries[:failed] + kept + entries[failed + 1 :]

    def _prune(self, path: str, payload: Any) -> Any:
        """Return a change without the parts that cannot be pickled, None when nothing is left."""
        if isinstance(payload, dict):
            return self._prune_mapping(path, payload, "[{!r}]") or None
        if isinstance(payload, tuple) and len(payload) == 2:  # noqa: PLR2004 - (changed, removed)
            changed = self._prune_mapping(path, payload[0], ".{}")
            return (changed, payload[1]) if changed or payload[1] else None
        self._note(find_obstacle(path, payload, self._attempt))
        return None

    def _prune_mapping(self, path: str, items: dict[Any, Any], label: str) -> dict[Any, Any]:
        kept = {}
        for key, item in items.items():
            obstacle = find_obstacle(path + label.format(key), item, self._attempt)
            if obstacle is None:
                kept[key] = item
            self._note(obstacle)
        return kept

    def _attempt(self, value: Any) -> Exception | None:
        try:
            self._new_pickler()[0].dump(value)
        except Exception as error:  # noqa: BLE001 - see _pickled
            return error
        return None

    def _note(self, obstacle: Obstacle | None) -> None:
        # Half-made values of the semantic layer, after a failure, are none of the user's making.
        if obstacle is not None and not obstacle.home.startswith("nbaas."):
            self.notes.append(f"{obstacle.path} stayed in the rank: {obstacle.reason}")


def _base_memo(loaded: Loaded) -> dict[int, tuple[int, Any]]:
    """Return the memo of a pickler that knows the loaded objects by the kernel's numbers.

    Numbers without an object to refer to are held by fillers: a memo counts on by its length.
    """
    memo: dict[int, tuple[int, Any]] = {}
    for number in range(len(loaded.memo)):
        value = loaded.noted[number][0] if number in loaded.noted else None
        if value is None or id(value) in memo:
            value = object()
        memo[id(value)] = (number, value)
    return memo


# ---- read: in the kernel -----------------------------------------------------------------------


def read_result(directory: Path, blobs: Path | None = None, *, verify: bool = True) -> Result:
    """Return the result in `directory`, its files compared with their digests if `verify`.

    Raises: BundleError: there is none (the rank ended before it could write), or it is damaged.
    """
    del blobs
    try:
        data = json.loads((directory / manifests.MANIFEST).read_bytes())
        files = {name: FileEntry(**entry) for name, entry in data["files"].items()}
        bound = tuple(ReturnedName(**name) for name in data["bound"])
        summary = ResultSummary(
            bound, tuple(data["deleted"]), data["changes"], tuple(data["notes"]), files
        )
    except FileNotFoundError as lost:
        raise BundleError(
            f"no result in {directory}", hint="the job ended before it had one"
        ) from lost
    except (ValueError, KeyError, TypeError) as wrong:
        raise BundleError(f"the result in {directory} is damaged: {wrong}") from wrong
    if verify:
        check_files(directory, files)
    return Result(directory, summary)
