"""The cell shows the user's own error: its class, the rank, its stack; the others are folded."""

from __future__ import annotations

from nbaas.errors import PlacementError, RankFailedError
from nbaas.magics.failures import failure_error, one_line
from nbaas.records import RankFailure
from nbaas.widgets.failure import ranks_text

STACK = "Cell In[3], line 4\n      2 x\n----> 4 boom()\nValueError: no such label: 11"


def failure(rank, secondary=False, kind="ValueError"):
    return RankFailure(rank, kind, "no such label: 11", STACK, secondary)


def test_the_error_has_the_users_class():
    error = failure_error([failure(1)], 2, {})
    assert isinstance(error, ValueError)
    assert isinstance(error, RankFailedError)
    assert type(error).__name__ == "ValueError"
    assert str(error) == "no such label: 11"


def test_a_class_of_the_notebook_is_found_there():
    class LabelError(Exception):
        def __init__(self, code, text):
            super().__init__(code, text)

    error = failure_error([failure(0, kind="LabelError")], 1, {"LabelError": LabelError})
    assert isinstance(error, LabelError)


def test_an_unknown_class_keeps_its_name():
    error = failure_error([failure(0, kind="mypkg.LabelError")], 1, {})
    assert type(error).__name__ == "LabelError"


def test_the_first_rank_is_shown_and_those_that_followed_are_folded():
    failures = [failure(0, secondary=True), failure(2), failure(1, secondary=True)]
    lines = failure_error(failures, 4, {})._render_traceback_()
    assert "rank 2 of 4" in lines[0]
    assert "----> 4 boom()" in lines
    assert lines[-1] == "ranks 0-1, 3 ended because of it"


def test_ranks_that_failed_alike_are_told_in_the_first_line():
    lines = failure_error([failure(0), failure(1)], 2, {})._render_traceback_()
    assert "the same on rank 1" in lines[0]
    assert len([line for line in lines if "boom" in line]) == 1


def test_an_error_of_ours_is_one_line_with_its_hint():
    line = one_line(PlacementError("--gpus 4: no GPU", hint="--ranks 4 runs on the CPU"))
    assert "PlacementError" in line
    assert line.endswith("--gpus 4: no GPU (--ranks 4 runs on the CPU)")


def test_ranks_read_as_ranges():
    assert ranks_text([1]) == "rank 1"
    assert ranks_text([3, 0, 2]) == "ranks 0, 2-3"
