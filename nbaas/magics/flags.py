"""Flags of a magic: argparse without abbreviations, with did-you-mean and `--help`.

Rule: every mistake is a UsageError of one line; argparse neither prints nor exits here.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from nbaas.errors import UsageError
from nbaas.magics.words import fill_in, split_line, unquoted

# Named in the documents, not in this version: refused by name instead of as a typing mistake.
LATER = {
    "--shard-stream": "an IterableDataset is iterated by every rank, which keeps its slice",
}


class HelpAsked(Exception):  # noqa: N818 - not an error: the text of --help, on its way to the cell
    """`--help` was on the line; `str()` is the text to print."""


class LineParser(argparse.ArgumentParser):
    """Parses the line of one magic; `magic` is its name as typed, such as '%%train'."""

    def __init__(self, magic: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=magic,
            description=description,
            epilog=epilog,
            add_help=False,
            allow_abbrev=False,
            exit_on_error=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("-h", "--help", action="store_true", help="show this text")

    def read(self, line: str, namespace: Mapping[str, Any]) -> argparse.Namespace:
        """Return the flags of `line`, each word filled in from the notebook's `namespace`.

        Raises: UsageError: an unknown flag, a wrong value, a name without value.  HelpAsked.
        """
        words = [fill_in(unquoted(word), namespace) for word in split_line(line)]
        return self.read_words(words)

    def read_words(self, words: Sequence[str]) -> argparse.Namespace:
        if "--help" in words or "-h" in words:
            raise HelpAsked(self.format_help().rstrip())
        try:
            found, unknown = self.parse_known_args(list(words))
        except argparse.ArgumentError as wrong:
            name = f"{wrong.argument_name}: " if wrong.argument_name else ""
            raise UsageError(f"{name}{wrong.message}", hint=f"{self.prog} --help") from wrong
        if unknown:
            raise self._unknown(unknown)
        return found

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help")

    def flags(self) -> list[str]:
        """Return every long flag, for completion."""
        return [name for name in self._option_string_actions if name.startswith("--")]

    def choices(self, flag: str) -> list[str]:
        """Return the values a flag is limited to, for completion."""
        action = self._option_string_actions.get(flag)
        return [str(choice) for choice in action.choices or ()] if action else []

    def takes_value(self, flag: str) -> bool:
        action = self._option_string_actions.get(flag)
        return action is not None and action.nargs != 0

    def _unknown(self, words: Sequence[str]) -> UsageError:
        flag = next((word for word in words if word.startswith("-")), "").split("=")[0]
        if not flag:
            return UsageError(f"{words[0]!r} is one word too many", hint=f"{self.prog} --help")
        if flag in LATER:
            return UsageError(f"{flag} is not in this version of nbaas", hint=LATER[flag])
        near = difflib.get_close_matches(flag, self.flags(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"{self.prog} --help lists the flags"
        return UsageError(f"{flag} is no flag of {self.prog}", hint=hint)


def whole_number(text: str) -> int:
    """Return `text` as a whole number, of any sign: the limits are told by who uses it."""
    try:
        return int(text)
    except ValueError as wrong:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from wrong


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError as wrong:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from wrong
