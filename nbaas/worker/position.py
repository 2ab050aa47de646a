"""A place in a cell, by the numbers that nbaas.worker.loops gives its statements."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two statements, or at the head of the innermost loop before its next turn."""

    at: int  # the number of the statement, or of the loop, that comes next
    loops: tuple[tuple[int, int], ...] = ()  # (number, items taken), outermost first
    in_loop: bool = False  # at the head of loop `at`, which is then the last of `loops`

    def amid(self, number: int) -> bool:
        """Return whether a turn of this loop is under way here."""
        inside = any(number == loop for loop, _ in self.loops)
        return inside and not (self.in_loop and number == self.at)
