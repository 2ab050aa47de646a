"""Tab on the line of a magic: its flags, the values of a flag, names of jobs and endpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from IPython.core.completer import SimpleCompletion, context_matcher

from nbaas.config import load_settings
from nbaas.errors import NbaasError
from nbaas.jobs.store import list_jobs
from nbaas.magics.flags import LineParser
from nbaas.placement import configured_hosts

NAMED = {"%logs": "job", "%stop": "job", "%attach": "job", "%resume": "job", "%predict": "endpoint",
         "%explain": "endpoint", "%endpoints": "endpoint",
         "%undeploy": "endpoint", "%rollback": "endpoint", "%train": "function",
         "%deploy": "module"}  # fmt: skip


class Completion:
    """Adds a matcher to IPython's completer that answers alone on the lines of our magics."""

    def __init__(self, parsers: Mapping[str, LineParser]) -> None:
        self._parsers = parsers

    def install(self, ip: Any) -> None:
        @context_matcher(identifier="nbaas")
        def match(context: Any) -> Any:
            return self._match(ip.user_ns, context.text_until_cursor)

        self._matcher = match
        ip.Completer.custom_matchers.append(match)

    def remove(self, ip: Any) -> None:
        matchers = ip.Completer.custom_matchers
        matchers[:] = [matcher for matcher in matchers if matcher is not self._matcher]

    def _match(self, namespace: Mapping[str, Any], line: str) -> dict[str, Any]:
        words = line.split()
        magic = words[0] if words else ""
        parser = self._parsers.get(magic)
        if parser is None or line == magic:
            return {"completions": []}
        typed = "" if line[-1].isspace() else words.pop()
        found = candidates(parser, magic, words[1:], typed, namespace)
        # Alone: on such a line Python's names and keywords are noise.
        return {
            "completions": [SimpleCompletion(text, type="param") for text in found],
            "matched_fragment": typed,
            "suppress": True,
        }


def candidates(
    parser: LineParser, magic: str, before: Sequence[str], typed: str, namespace: Mapping[str, Any]
) -> list[str]:
    """Return what may stand for `typed` after the words `before`."""
    flag = before[-1] if before and parser.takes_value(before[-1]) else ""
    if flag:
        found = parser.choices(flag) or _values(flag, namespace)
    elif typed.startswith("-"):
        found = parser.flags()
    else:
        found = [*_names(NAMED.get(magic, ""), namespace), *parser.flags()]
    return [name for name in found if name.startswith(typed)]


def _values(flag: str, namespace: Mapping[str, Any]) -> list[str]:
    if flag in ("--exclude", "--example", "--names", "--tokens", "--pre", "--post"):
        return _variables(namespace, lambda _: True)
    if flag in ("--hosts", "--cluster"):
        return _hosts(flag)
    if flag == "--ranks":
        return ["2", "4"]
    return []


def _hosts(flag: str) -> list[str]:
    # A file that does not fit must not break typing.
    with contextlib.suppress(NbaasError, OSError):
        clusters = load_settings().clusters
        if flag == "--cluster":
            return sorted(clusters)
        return [f"{e.host.name}:{e.slots or 1}" for e in configured_hosts(clusters)]
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
