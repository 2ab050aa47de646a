"""The transition table, and the states that journals replay to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbaas.errors import JobError
from nbaas.jobs.state import TRANSITIONS, History, check, replay
from nbaas.records import FINAL, State


def test_every_state_has_its_row_and_final_states_have_no_exit():
    assert set(TRANSITIONS) == {None, *State}
    assert all((not TRANSITIONS[state]) == (state in FINAL) for state in State)


def test_every_state_that_is_not_final_can_be_lost():
    assert all(State.LOST in TRANSITIONS[state] for state in State if state not in FINAL)


def test_every_state_can_be_reached():
    reached: set[State] = set()
    frontier = set(TRANSITIONS[None])
    while frontier:
        reached |= frontier
        frontier = {after for state in frontier for after in TRANSITIONS[state]} - reached
    assert reached == set(State)


def test_p14_a_forbidden_transition_is_an_error():
    with pytest.raises(JobError, match="from SUCCEEDED to RUNNING"):
        check(State.SUCCEEDED, State.RUNNING)


EVENTS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "state": st.sampled_from([*map(str, State), "UNHEARD-OF"]),
            "event": st.sampled_from(["FLAG", "UNFLAG", "SPAWNED", "NEW"]),
            "flag": st.sampled_from(["STALLED", "QUEUED"]),
            "time": st.floats(0, 1e10),
        },
    ).filter(lambda event: "flag" in event or event.get("event") not in ("FLAG", "UNFLAG")),
    max_size=30,
)


@given(EVENTS)
def test_p14_no_journal_replays_to_a_path_that_the_table_does_not_hold(events: list[Any]):
    history = History()
    for event in events:
        after = replay([event], history)
        if after.state is not history.state:
            assert after.state in TRANSITIONS[history.state]
        history = after


def test_a_replay_in_pieces_is_the_replay_of_the_whole():
    events = [
        {"state": "CREATED", "time": 1.0},
        {"state": "STARTING", "time": 2.0, "host": "a", "boot": "b", "pid": 7, "pid_start": 8},
        {"event": "SPAWNED", "pids": {"0": 11, "1": 12}},
        {"state": "RUNNING", "time": 3.0},
        {"event": "FLAG", "flag": "STALLED"},
        {"event": "EXITED", "rank": 1, "code": -9},
        {"state": "FAILED", "time": 4.0, "reason": "rank 1 was killed"},
    ]
    whole = replay(events)
    assert replay(events[4:], replay(events[:4])) == whole
    assert (whole.state, whole.since, whole.started) == (State.FAILED, 4.0, 3.0)
    assert whole.pids == {0: 11, 1: 12}
    assert whole.exits == {1: -9}
    assert whole.supervisor == (7, 8)
    assert not whole.flags
