"""The life of a job: which state may follow which, and the state that a journal's events replay to.

Pure.  Rule: a state is never stored but as the last transition of events.jsonl; final states stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nbaas.errors import JobError
from nbaas.records import State

_ENDS = frozenset({State.FAILED, State.INTERRUPTED, State.LOST})
_ASKED = frozenset({State.STOPPING, State.CANCELLING})

TRANSITIONS: Mapping[State | None, frozenset[State]] = {
    None: frozenset({State.CREATED}),
    State.CREATED: _ENDS | _ASKED | {State.STARTING},
    State.STARTING: _ENDS | _ASKED | {State.RUNNING, State.RESTARTING},
    State.RUNNING: _ENDS | _ASKED | {State.SUCCEEDED, State.RESTARTING},
    State.RESTARTING: _ENDS | _ASKED | {State.STARTING},
    # Asked to stop, the ranks may still reach their end, fail, or not listen.
    State.STOPPING: _ENDS | {State.STOPPED, State.SUCCEEDED, State.CANCELLING},
    State.CANCELLING: frozenset({State.CANCELLED, State.LOST}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.STOPPED: frozenset(),
    State.CANCELLED: frozenset(),
    State.INTERRUPTED: frozenset(),
    State.LOST: frozenset(),
}


@dataclass(frozen=True, slots=True)
class History:
    """What the events of a job add up to."""

    state: State | None = None
    since: float = 0.0  # seconds since the epoch: when `state` was entered
    started: float = 0.0  # when the ranks last began to run
    reason: str = ""
    host: str = ""
    boot: str = ""
    supervisor: tuple[int, int] = (0, 0)  # process and its start time
    control: str = ""  # path of the control socket
    pids: Mapping[int, int] = field(default_factory=dict)  # rank -> process
    exits: Mapping[int, int] = field(default_factory=dict)  # rank -> exit code, minus a signal
    failure: Mapping[str, Any] | None = None  # a RankFailure's fields
    flags: frozenset[str] = frozenset()  # STALLED, DISK_FULL, QUEUED
    restarts: int = 0
    refused: int = 0  # transitions the table does not hold: a damaged or foreign journal


def check(current: State | None, following: State) -> None:
    """Raise JobError where `following` may not come after `current`."""
    if following not in TRANSITIONS[current]:
        before = current or "nothing"
        raise JobError(f"a job cannot go from {before} to {following}")


def replay(events: Iterable[Mapping[str, Any]], start: History | None = None) -> History:
    """Return the history after `events`; a transition that may not be is counted, not made."""
    history = start or History()
    for event in events:
        history = _after(history, event)
    return history


def _after(history: History, event: Mapping[str, Any]) -> History:
    if "state" in event:
        return _entered(history, event)
    match event.get("event"):
        case "SPAWNED":
            pids = {int(rank): int(pid) for rank, pid in event.get("pids", {}).items()}
            return replace(history, pids=pids, exits={})
        case "EXITED":
            exits = {**history.exits, int(event["rank"]): int(event["code"])}
            return replace(history, exits=exits)
        case "FLAG":
            flags = history.flags | {str(event["flag"])}
            return replace(history, flags=flags, reason=str(event.get("reason", history.reason)))
        case "UNFLAG":
            reason = history.reason if history.state in _ASKED else ""
            return replace(history, flags=history.flags - {str(event["flag"])}, reason=reason)
    return history


def _entered(history: History, event: Mapping[str, Any]) -> History:
    try:
        state = State(event["state"])
    except ValueError:
        return replace(history, refused=history.refused + 1)
    if state not in TRANSITIONS[history.state]:
        return replace(history, refused=history.refused + 1)
    moment = float(event.get("time", 0.0))
    entered = replace(
        history,
        state=state,
        since=moment,
        reason=str(event.get("reason", "")),
        failure=event.get("failure"),
    )
    if state.final:
        return replace(entered, flags=frozenset())
    if state is State.STARTING:
        return replace(
            entered,
            host=str(event.get("host", "")),
            boot=str(event.get("boot", "")),
            supervisor=(int(event.get("pid", 0)), int(event.get("pid_start", 0))),
            control=str(event.get("control", "")),
            pids={},
            exits={},
        )
    if state is State.RUNNING:
        return replace(entered, started=moment)
    if state is State.RESTARTING:
        return replace(entered, restarts=history.restarts + 1)
    return entered
