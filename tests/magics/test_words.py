"""The line of a magic becomes words, and words are filled in from the notebook."""

from __future__ import annotations

import random
import string
from types import SimpleNamespace

import pytest

from nbaas.errors import UsageError
from nbaas.magics.words import evaluate, fill_in, split_line, unquoted


def words_of(line):
    return [unquoted(word) for word in split_line(line)]


def test_quotes_and_brackets_hold_blanks_together():
    assert words_of('--name "a b" --example x[:, 0] f(a, "b c")') == [
        "--name",
        "a b",
        "--example",
        "x[:, 0]",
        'f(a, "b c")',
    ]


def test_a_value_after_an_equals_sign_loses_its_quotes():
    assert words_of('--name="a b" --seed=3') == ["--name=a b", "--seed=3"]


def test_quotes_inside_an_expression_stay():
    assert words_of("digits batch['pixels'][:1]") == ["digits", "batch['pixels'][:1]"]


def test_a_comment_ends_the_line():
    assert words_of("--ranks 2  # both cores") == ["--ranks", "2"]


@pytest.mark.parametrize("line", ['--name "a', "--example f(x", "--example {n"])
def test_what_is_not_closed_is_named(line):
    with pytest.raises(UsageError, match="is missing"):
        split_line(line)


def test_names_attributes_and_expressions_are_filled_in():
    namespace = {"n": 2, "cfg": SimpleNamespace(ranks=3)}
    filled = [fill_in(word, namespace) for word in ("$n", "$cfg.ranks", "run-{n + 1}", "{{n}}")]
    assert filled == ["2", "3", "run-3", "{n}"]


def test_one_undefined_name_is_named_and_leaves_the_other_words_alone():
    assert fill_in("$n", {"n": 2}) == "2"
    with pytest.raises(UsageError, match=r"\$ranks: 'ranks' is not defined"):
        fill_in("$ranks", {"n": 2})


def test_an_expression_without_value_says_what_python_said():
    with pytest.raises(UsageError, match="1/0: ZeroDivisionError"):
        evaluate("1/0", {})


def test_any_line_gives_words_or_a_usage_error():
    letters = string.ascii_letters + " \t'\"()[]{}#$%=-\\" + "äß"
    chance = random.Random(7)
    for _ in range(3000):
        line = "".join(chance.choices(letters, k=chance.randrange(30)))
        try:
            for word in split_line(line):
                fill_in(unquoted(word), {})
        except UsageError:
            continue
