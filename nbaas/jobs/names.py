"""Names and ids of jobs: what a user may type, and what nbaas makes up.

Rule: names go into JSON, never into a path that was not validated here.
"""

from __future__ import annotations

import re
import secrets
import time

from nbaas.errors import UsageError

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
JOB_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")
WORDS_A = (
    "amber brisk calm clear crisp deep early fair fresh keen light lucid mild quick quiet soft"
)
WORDS_B = (
    "aspen birch brook cedar delta dune fern grove heron larch maple otter reef ridge river wren"
)


def checked_name(name: str) -> str:
    """Return `name`; raises UsageError where it is no name for a job."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"--name {name!r}: not a name for a job",
            hint="lower-case letters, digits and '-', starting with a letter or digit, at most 63",
        )
    return name


def new_name() -> str:
    """Return a name for a job that was given none, such as 'calm-otter-3f'."""
    first, second = secrets.choice(WORDS_A.split()), secrets.choice(WORDS_B.split())
    return f"{first}-{second}-{secrets.token_hex(1)}"


def new_id(now: float) -> str:
    """Return an id that sorts by time: '20261123-205252-1231f0c9', UTC, milliseconds, 20 random bits."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    return f"{stamp}-{int(now * 1000) % 1000:03d}{secrets.randbits(20):05x}"
