"""`python -I -S detach.py PROGRAM ARGUMENTS`: PROGRAM runs on as nobody's child; returns at once."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    if os.fork():
        os._exit(0)
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell is wanted
