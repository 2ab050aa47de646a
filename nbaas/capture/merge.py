"""What a run left behind, into the notebook: into the very objects, with their aliases.

Rule: everything is decoded and checked before the first change; then nothing can fail half way
because of what was sent.  Only names that the cell bound are set.
"""

from __future__ import annotations

from typing import Any

from nbaas.bundle.ambient import set_ambient
from nbaas.bundle.contents import CellContents
from nbaas.bundle.definitions import is_notebook_definition
from nbaas.bundle.paths import children
from nbaas.bundle.result import Result, apply_changes
from nbaas.bundle.store import Bundle

MAX_REACHED = 100_000  # objects looked at behind a name to say that it changed


def merge_result(
    result: Result, namespace: dict[str, Any], captured: CellContents | Bundle
) -> list[str]:
    """Bring `result` into `namespace` and return the names that are new or changed, sorted.

    `captured` is what the run was given: the contents, whose objects are changed in place.  After a
    restart of the kernel it is the bundle: names of values that changed are bound to what the run
    made of them, with the classes that the notebook has now.
    """
    if isinstance(captured, CellContents):
        live, roots, count = captured.live, captured.roots, captured.values.memo_sizes[-1]
    else:
        loaded = captured.restore(namespace, classes=_classes(namespace), bind=False)
        live, roots, count = loaded.memo, loaded.roots, len(loaded.memo)
    names, changes, random = result.decoded(live, count, namespace)
    touched = apply_changes(changes, live)
    changed = _reaching(roots, touched)
    if isinstance(captured, CellContents):
        set_ambient(random)
    else:
        namespace.update({name: roots[name] for name in roots if name not in namespace})
        namespace.update({name: roots[name] for name in changed})
    namespace.update(names)
    for name in result.summary.deleted:
        namespace.pop(name, None)
    return sorted({*names, *result.summary.deleted, *changed})


def _classes(namespace: dict[str, Any]) -> dict[str, type]:
    return {
        name: value
        for name, value in namespace.items()
        if isinstance(value, type) and is_notebook_definition(value)
    }


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
