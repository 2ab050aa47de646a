"""Tab on the line of a magic: its flags, the values of a flag, names of jobs and endpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nbaas.config import load_settings
from nbaas.errors import NbaasError
from nbaas.jobs.store import list_jobs
from nbaas.magics.flags import LineParser

NAMED = {"%logs": "job", "%stop": "job", "%attach": "job", "%predict": "endpoint",
         "%undeploy": "endpoint", "%rollback": "endpoint", "%train": "function",
         "%deploy": "module"}  # fmt: skip


class Completion:
    """Answers IPython's `complete_command` hook for every magic in `parsers`."""

    def __init__(self, parsers: Mapping[str, LineParser]) -> None:
        self._parsers = parsers

    def install(self, ip: Any) -> None:
        for magic in self._parsers:
            ip.set_hook("complete_command", self.complete, str_key=magic)

    def remove(self, ip: Any) -> None:
        dispatcher = ip.strdispatchers.get("complete_command")
        for magic in self._parsers:
            chain = dispatcher.strs.get(magic) if dispatcher is not None else None
            if chain is not None:
                chain.chain = [entry for entry in chain.chain if entry[1] != self.complete]

    def complete(self, ip: Any, event: Any) -> list[str]:
        """Return what may stand where the cursor is."""
        words = event.line.split()
        magic = words[0] if words else ""
        parser = self._parsers.get(magic)
        if parser is None:
            return []
        before = words[1:] if event.line.endswith(" ") else words[1:-1]
        return candidates(parser, magic, before, event.symbol, ip.user_ns)


def candidates(
    parser: LineParser, magic: str, before: Sequence[str], symbol: str, namespace: Mapping[str, Any]
) -> list[str]:
    """Return completions of `symbol` after the words `before`."""
    flag = before[-1] if before and parser.takes_value(before[-1]) else ""
    if flag:
        found = parser.choices(flag) or _values(flag, namespace)
    elif symbol.startswith("-"):
        found = parser.flags()
    else:
        found = [*_names(NAMED.get(magic, ""), namespace), *parser.flags()]
    return [name for name in found if name.startswith(symbol)]


def _values(flag: str, namespace: Mapping[str, Any]) -> list[str]:
    if flag in ("--exclude", "--example"):
        return _variables(namespace, lambda _: True)
    if flag == "--ranks":
        return ["2", "4"]
    return []


def _names(kind: str, namespace: Mapping[str, Any]) -> list[str]:
    if kind == "function":
        return _variables(namespace, callable)
    if kind == "module":
        return _variables(namespace, lambda value: hasattr(value, "state_dict"))
    # A store that cannot be read must not break typing.
    with contextlib.suppress(NbaasError, OSError):
        if kind == "job":
            return sorted({job.name for job in list_jobs(load_settings())})
        if kind == "endpoint":
            return _endpoints()
    return []


def _endpoints() -> list[str]:
    try:
        folders = [path.name for path in load_settings().endpoints.iterdir() if path.is_dir()]
    except FileNotFoundError:
        return []
    return sorted(name for name in folders if not name.startswith("."))


def _variables(namespace: Mapping[str, Any], wanted: Callable[[Any], bool]) -> list[str]:
    return sorted(n for n, value in namespace.items() if not n.startswith("_") and wanted(value))
