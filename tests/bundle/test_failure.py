"""A user's error is shown as IPython shows it: the cell's lines, the whole stack, none of our frames."""

from __future__ import annotations

import pytest

from nbaas.bundle import describe_failure


def failure_of(bundle, rank=1):
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - of any kind
        bundle.execute({"__name__": "__main__"})
    return describe_failure(caught.value, rank, bundle)


def test_the_cells_lines_are_shown_around_the_one_that_failed(opened):
    source = "def f(x):\n    y = x\n    return 1 / y\n\nvalue = 0\nf(value)"
    failure = failure_of(opened(source))
    assert (failure.rank, failure.kind, failure.message) == (
        1,
        "ZeroDivisionError",
        "division by zero",
    )
    assert failure.traceback == (
        "ZeroDivisionError         Traceback on rank 1 (most recent call last)\n"
        "Cell In[3], line 6\n"
        "     5 value = 0\n"
        "---> 6 f(value)\n"
        "\n"
        "Cell In[3], line 3, in f\n"
        "     1 def f(x):\n"
        "     2     y = x\n"
        "---> 3     return 1 / y\n"
        "     5 value = 0\n"
        "\n"
        "ZeroDivisionError: division by zero\n"
    )


def test_library_frames_are_shown_with_their_line(opened):
    failure = failure_of(opened("import json\njson.loads('{')"))
    assert "Cell In[3], line 2" in failure.traceback
    assert "json/decoder.py:" in failure.traceback
    assert "---> " in failure.traceback


def test_causes_and_contexts_are_kept(opened):
    source = "try:\n    {}['a']\nexcept KeyError as lost:\n    raise ValueError('no a') from lost\n"
    text = failure_of(opened(source)).traceback
    assert text.index("KeyError: 'a'") < text.index("direct cause") < text.index("ValueError: no a")
    source = "try:\n    {}['a']\nexcept KeyError:\n    1 / 0\n"
    text = failure_of(opened(source)).traceback
    assert text.index("KeyError: 'a'") < text.index("During handling") < text.index("by zero")
    source = "try:\n    {}['a']\nexcept KeyError:\n    raise ValueError('x') from None\n"
    assert "KeyError: 'a'" not in failure_of(opened(source)).traceback


def test_notes_groups_and_broken_messages_are_told(opened):
    source = "e = ValueError('x')\ne.add_note('look here')\nraise e"
    assert "look here" in failure_of(opened(source)).traceback
    source = "raise ExceptionGroup('several', [ValueError('a'), TypeError('b')])"
    text = failure_of(opened(source)).traceback
    assert "| ValueError: a" in text
    assert "| TypeError: b" in text
    source = "class Odd(Exception):\n    def __str__(self): raise RuntimeError\nraise Odd"
    assert failure_of(opened(source)).message == "<RuntimeError in __str__>"


def test_exits_and_interrupts_are_described_too(opened):
    assert failure_of(opened("raise SystemExit(3)")).kind == "SystemExit"
    assert failure_of(opened("raise KeyboardInterrupt")).kind == "KeyboardInterrupt"


def test_a_failure_before_the_cell_has_no_cell_lines():
    failure = describe_failure(RuntimeError("early"), 0, None)
    assert failure.message == "early"
    assert failure.traceback.endswith("RuntimeError: early\n")
