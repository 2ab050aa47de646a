"""Which rank is at fault when a gang has ended."""

from __future__ import annotations

from nbaas.jobs.blame import Exit, culprit, describe_exit, failure_of
from nbaas.records import RankFailure


def failure(rank: int, kind: str = "ValueError", *, secondary: bool = False) -> RankFailure:
    return RankFailure(rank, kind, "wrong", "Traceback ...", secondary)


def test_a_rank_that_only_lost_its_peer_is_not_blamed_even_when_it_ended_first():
    exits = [Exit(0, 1, order=0), Exit(1, 1, order=1)]
    failures = {0: failure(0, "EngineError", secondary=True), 1: failure(1)}
    assert culprit(exits, failures).rank == 1


def test_a_rank_that_was_killed_is_blamed_before_those_that_missed_it():
    exits = [Exit(0, 1, order=0), Exit(1, -9, order=1)]
    assert culprit(exits, {0: failure(0, secondary=True)}).rank == 1


def test_ranks_that_we_killed_are_not_blamed():
    exits = [Exit(0, -9, order=0, ours=True), Exit(2, 3, order=1)]
    assert culprit(exits, {}).rank == 2


def test_ranks_that_raised_the_same_are_one_failure_and_the_lowest_speaks():
    exits = [Exit(1, 1, order=0), Exit(0, 1, order=1)]
    assert culprit(exits, {0: failure(0), 1: failure(1)}).rank == 0


def test_where_all_are_consequences_the_first_is_named():
    exits = [Exit(1, 1, order=0), Exit(0, 1, order=1)]
    failures = {rank: failure(rank, "EngineError", secondary=True) for rank in (0, 1)}
    assert culprit(exits, {**failures}).rank == 0
    assert culprit([Exit(0, 0, order=0), Exit(1, 75, order=1)], {}) is None


def test_a_rank_that_could_say_nothing_is_described_with_the_end_of_its_log():
    shown = failure_of(Exit(1, -11, order=0), {}, "last line")
    assert shown.message == "crashed (SIGSEGV): its log has the stack"
    assert shown.traceback == "last line"
    assert describe_exit(3) == ("Exited", "left with exit code 3")
