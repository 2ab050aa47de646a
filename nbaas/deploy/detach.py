"""`python -m nbaas.deploy.detach HOME LOCK`: becomes the detached endpoint host; returns at once."""

from __future__ import annotations

import os
import sys


def main(argv: list[str]) -> None:
    if os.fork():
        os._exit(0)
    from nbaas.deploy.host import main as host

    host(argv)


if __name__ == "__main__":
    main(sys.argv)
