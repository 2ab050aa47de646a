"""A wrong flag is one clear line that says what to type instead."""

from __future__ import annotations

import pytest

from nbaas.errors import UsageError
from nbaas.magics.flags import HelpAsked, LineParser, whole_number


@pytest.fixture
def parser():
    parser = LineParser("%%train", "Run the cell on ranks.")
    parser.add_argument("--gpus", type=whole_number)
    parser.add_argument("--ranks", type=whole_number, help="CPU ranks")
    parser.add_argument("--batch", choices=["global", "per-rank"])
    return parser


def test_a_flag_is_never_abbreviated_but_the_near_one_is_offered(parser):
    with pytest.raises(UsageError, match="--rank is no flag of %%train") as caught:
        parser.read("--rank 2", {})
    assert caught.value.hint == "did you mean --ranks?"


def test_a_flag_of_a_later_version_is_refused_by_name(parser):
    with pytest.raises(UsageError, match="--shard-stream is not in this version"):
        parser.read("--shard-stream", {})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--ranks two", "--ranks: 'two' is not a whole number"),
        ("--ranks", "--ranks: expected one argument"),
        ("--batch all", "--batch: invalid choice: 'all'"),
        ("--ranks 2 digits", "'digits' is one word too many"),
        ("--ranks $n", "n"),
    ],
)
def test_a_wrong_value_names_flag_and_value(parser, line, said):
    with pytest.raises(UsageError) as caught:
        parser.read(line, {})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_each_word_is_filled_in_by_itself(parser):
    assert parser.read("--ranks {n + 1} --batch per-rank", {"n": 1}).ranks == 2


def test_help_is_asked_for_even_beside_a_mistake(parser):
    with pytest.raises(HelpAsked, match="CPU ranks"):
        parser.read("--nonsense --help", {})
