"""`--checkpoint-every 100` or `30s`: how often a run saves unasked."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nbaas.errors import UsageError

EVERY = re.compile(r"(\d+(?:\.\d+)?)(s|m|min|h)?")
SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Every:
    """After so many optimizer steps, or so many seconds; 0 is never."""

    steps: int = 0
    seconds: float = 0.0


def parse_every(text: str) -> Every:
    """Return what a flag says: '100' is steps, '30s' '5min' '1h' are times, '' is never.

    Raises: UsageError: anything else.
    """
    if not text:
        return Every()
    match = EVERY.fullmatch(text)
    if match is None or not float(match[1]) or (match[2] is None and "." in match[1]):
        raise UsageError(
            f"--checkpoint-every {text!r} is neither steps nor a time",
            hint="100 is every 100 steps, 30s every 30 seconds; also 5min, 1h",
        )
    if match[2] is None:
        return Every(steps=int(match[1]))
    return Every(seconds=float(match[1]) * SECONDS[match[2]])
