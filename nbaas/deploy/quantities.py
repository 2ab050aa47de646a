"""Durations and sizes as people write them: '10m', '1.5h', '16M'.  Pure; for argparse's `type`."""

from __future__ import annotations

import argparse
import re

DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|)")
SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
SIZE = re.compile(r"([0-9]+)(k|M|G|)", re.IGNORECASE)
BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def duration(text: str) -> float:
    """Return the seconds of '10m', '1.5h', '250ms' or '30'."""
    match = DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 30s, 10m or 1h")
    return float(match[1]) * SECONDS[match[2]]


def size(text: str) -> int:
    """Return the bytes of '16M', '64k' or '1000'."""
    match = SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 64k or 16M")
    return int(match[1]) * BYTES[match[2].lower()]
