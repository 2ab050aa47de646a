"""A rank that is gone, or never comes, is an error of ours within seconds, not a hang."""

from __future__ import annotations

import signal

import pytest

pytestmark = pytest.mark.ranks


@pytest.mark.parametrize("engine", ["ddp", "horovod"])
def test_a_killed_rank_makes_the_others_raise(gang, engine):
    first, killed, last = gang(engine, 3, "leaving_rank")
    assert killed.code == -signal.SIGKILL
    for survivor in (first, last):
        assert survivor.code == 0, survivor.output
        assert "'gradients' could not finish" in survivor.said["error"]
        assert survivor.said["seconds"] < 20


@pytest.mark.parametrize("engine", ["ddp", "horovod"])
def test_a_rank_that_never_comes_is_named(gang, engine):
    for waiting in gang(engine, 3, "waiting_rank", absent=1):
        assert waiting.said.startswith("rank 1 of 3 did not join within 2 s"), waiting.output
