"""What a run left behind, into the notebook: into the very objects, with their aliases.

Rule: everything is decoded and checked before the first change; then nothing can fail half way
because of what was sent.  Only names that the cell bound are set.
"""

from __future__ import annotations

from typing import Any

from nbaas.bundle.ambient import set_ambient
from nbaas.bundle.changes import kind_of
from nbaas.bundle.contents import CellContents
from nbaas.bundle.paths import children
from nbaas.bundle.result import Result
from nbaas.bundle.store import Bundle

MAX_REACHED = 100_000  # objects looked at behind a name to say that it changed


def merge_result(
    result: Result, namespace: dict[str, Any], captured: CellContents | Bundle
) -> list[str]:
    """Bring `result` into `namespace` and return the names that are new or changed, sorted.

    `captured` is what the run was given: the contents, whose objects are changed in place, or after
    a restart of the kernel the bundle, whose values take their names again.
    """
    live, roots, count = _live(captured, namespace)
    names, changes, random = result.decoded(live, count, namespace)
    changed = set()
    for change in changes:
        target = live.get(change.number)
        kind = kind_of(target)
        if kind is not None:
            kind.apply(target, change.payload)
            changed.add(id(target))
    if random:
        set_ambient(random)
    if isinstance(captured, Bundle):  # a new kernel: the values it was given take their names again
        namespace.update(roots)
    namespace.update(names)
    for name in result.summary.deleted:
        namespace.pop(name, None)
    return sorted({*names, *result.summary.deleted, *_reaching(roots, changed)})


def _live(
    captured: CellContents | Bundle, namespace: dict[str, Any]
) -> tuple[dict[int, Any], dict[str, Any], int]:
    if isinstance(captured, CellContents):
        return captured.live, captured.roots, captured.values.memo_sizes[-1]
    loaded = captured.restore(dict(namespace))
    return loaded.memo, loaded.roots, len(loaded.memo)


def _reaching(roots: dict[str, Any], changed: set[int]) -> list[str]:
    """Return the names from which a changed object can be reached."""
    found = []
    for name, root in roots.items():
        seen, queue = {id(root)}, [root]
        for value in queue:  # grows while it is walked
            if id(value) in changed:
                found.append(name)
                break
            for _, child in children(value):
                if id(child) not in seen and len(queue) < MAX_REACHED:
                    seen.add(id(child))
                    queue.append(child)
    return found
