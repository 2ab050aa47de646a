"""A magic's line as words, and `$name` and `{expression}` in them filled in from the notebook.

Rule: a word keeps its brackets and the quotes inside it, so that `x[:, 0]` and `{n + 1}` are one
word each; only quotes around a whole word (or around the value after `--flag=`) are taken off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nbaas.errors import UsageError

CLOSING = {"(": ")", "[": "]", "{": "}"}
QUOTES = "'\""
_QUOTED = re.compile(r"(--[\w-]+=)?(['\"])(.*)\2", re.DOTALL)
_FIELD = re.compile(r"\$\$|\{\{|\}\}|\$([A-Za-z_][\w.]*)")


def split_line(line: str) -> list[str]:
    """Return the words of `line`; quotes and brackets hold blanks together, `#` ends the line.

    Raises: UsageError: a quote or a bracket that is not closed.
    """
    words: list[str] = []
    word, open_quote, brackets = "", "", list[str]()
    for letter in line:
        if open_quote:
            open_quote = "" if letter == open_quote else open_quote
        elif not brackets and letter.isspace():
            words, word = ([*words, word] if word else words), ""
            continue
        elif not brackets and letter == "#" and not word:
            break
        elif letter in QUOTES:
            open_quote = letter
        elif letter in CLOSING:
            brackets.append(CLOSING[letter])
        elif brackets and letter == brackets[-1]:
            brackets.pop()
        word += letter
    if open_quote or brackets:
        missing = open_quote or brackets[-1]
        raise UsageError(f"{word!r}: {missing} is missing", hint="quote the whole value")
    return [*words, word] if word else words


def unquoted(word: str) -> str:
    """Return `word` without the quotes around it or around its value: `--name="a b"` too."""
    match = _QUOTED.fullmatch(word)
    if match is None or match[2] in match[3]:
        return word
    return (match[1] or "") + match[3]


def fill_in(word: str, namespace: Mapping[str, Any]) -> str:
    """Return `word` with `$name`, `$a.b` and `{expression}` replaced; `$$`, `{{` and `}}` escape.

    Raises: UsageError: naming the variable or the expression that has no value.
    """
    filled, at = "", 0
    while at < len(word):
        match = _FIELD.match(word, at)
        if match is not None:
            filled += str(_attribute(match[1], namespace)) if match[1] else match[0][0]
            at = match.end()
        elif word[at] == "{":
            expression = _braced(word, at)
            filled += str(evaluate(expression, namespace))
            at += len(expression) + 2
        else:
            filled += word[at]
            at += 1
    return filled


def _braced(word: str, at: int) -> str:
    depth = 0
    for end in range(at, len(word)):
        depth += {"{": 1, "}": -1}.get(word[end], 0)
        if depth == 0:
            return word[at + 1 : end]
    raise UsageError(f"{word!r}: }} is missing", hint="write {{ for a plain brace")


def _attribute(dotted: str, namespace: Mapping[str, Any]) -> Any:
    name, *attributes = dotted.split(".")
    if name not in namespace:
        raise UsageError(f"${dotted}: {name!r} is not defined in the notebook")
    value = namespace[name]
    for attribute in attributes:
        try:
            value = getattr(value, attribute)
        except AttributeError as missing:
            raise UsageError(f"${dotted}: {missing}") from missing
    return value


def evaluate(expression: str, namespace: Mapping[str, Any]) -> Any:
    """Return the value of an expression the user wrote on the line, in the notebook's namespace.

    Raises: UsageError: with the expression and what Python said of it.
    """
    try:
        return eval(compile(expression.strip(), "<line>", "eval"), dict(namespace))  # noqa: S307 - the user's own kernel and line
    except NameError as missing:
        raise UsageError(f"{expression.strip()}: {missing}", hint="define it above") from missing
    except Exception as wrong:
        raise UsageError(f"{expression.strip()}: {type(wrong).__name__}: {wrong}") from wrong
